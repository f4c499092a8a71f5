/** Paths that clients mean, beside OpenAI's own. */
const ALIASES: Readonly<Record<string, string>> = {
  "/health": "/healthz",
  "/models": "/v1/models",
  "/chat/completions": "/v1/chat/completions",
  "/embeddings": "/v1/embeddings",
};

/** The path that a person means: slashes that a base URL left twice or at the end are one or none, `/v1` may be missing. */
export function meantPath(path: string): string {
  const single = path.replace(/\/{2,}/g, "/").replace(/(.)\/$/, "$1");
  return Object.hasOwn(ALIASES, single) ? ALIASES[single]! : single;
}
