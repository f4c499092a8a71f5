/** Paths that clients use for OpenAI's. */
const ALIASES: Readonly<Record<string, string>> = {
  "/health": "/healthz",
  "/models": "/v1/models",
  "/chat/completions": "/v1/chat/completions",
  "/completions": "/v1/completions",
  "/responses": "/v1/responses",
  "/embeddings": "/v1/embeddings",
  "/rerank": "/v1/rerank",
  "/v2/rerank": "/v1/rerank",
  "/tokenize": "/v1/tokenize",
  "/detokenize": "/v1/detokenize",
};

/** The path that is meant: double slashes and slashes at the end (from a base URL) are removed, and `/v1` may be missing. */
export function meantPath(path: string): string {
  const single = path.replace(/\/{2,}/g, "/").replace(/(.)\/$/, "$1");
  return Object.hasOwn(ALIASES, single) ? ALIASES[single]! : single;
}
