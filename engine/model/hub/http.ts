import { cancelledError, KvspliceError } from "../../../plan/index.js";
import type { HubSettings } from "./settings.js";

/** Time after which connecting, and later waiting for data, is given up. */
const CONNECT_MS = 10_000;
const SILENCE_MS = 30_000;

export type Fetch = typeof fetch;

/**
 * A `fetch` that uses the proxies in `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` (also in lower case), has timeouts, and
 * sends the token only to the hub.
 */
export async function hubFetch({ endpoint, token }: HubSettings, signal?: AbortSignal): Promise<Fetch> {
  const { EnvHttpProxyAgent, fetch } = await import("undici");
  const dispatcher = new EnvHttpProxyAgent({ connect: { timeout: CONNECT_MS }, headersTimeout: SILENCE_MS, bodyTimeout: SILENCE_MS });
  const { origin } = new URL(endpoint);
  return (async (input: string | URL, init: RequestInit = {}) => {
    const url = new URL(input);
    const headers = new Headers(init.headers);
    headers.set("user-agent", "kvsplice");
    // fetch removes it again when the hub redirects to another host.
    if (token !== undefined && url.origin === origin) headers.set("authorization", `Bearer ${token}`);
    return fetch(url, { ...(init as object), headers: Object.fromEntries(headers), dispatcher, ...(signal && { signal }) });
  }) as unknown as Fetch;
}

/** What went wrong in connecting to a server, as an error that says what to do. */
export function connectionError(cause: unknown, url: string, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return cancelledError(signal);
  if (cause instanceof KvspliceError) return cause;
  const inner = (cause as { cause?: { code?: string; message?: string } } | undefined)?.cause;
  const why = inner?.code ?? inner?.message ?? (cause instanceof Error ? cause.message : String(cause));
  return new KvspliceError(
    "unreachable",
    `${new URL(url).host} cannot be reached (${why}). Check the network, HTTPS_PROXY and HF_ENDPOINT; with HF_HUB_OFFLINE=1, only local models are used.`,
    { cause },
  );
}

/** What a server's refusal of `what` means, as an error that says what to do. */
export function refusalError(status: number, what: string, hasToken: boolean): KvspliceError {
  switch (status) {
    case 401:
    case 403:
      return new KvspliceError(
        "unreachable",
        hasToken
          ? `Your token may not read ${what}. Accept the licence on its page, or set HF_TOKEN to a token that may read it.`
          : `${what} is restricted on the hub, or does not exist. Accept its licence on its page, and set HF_TOKEN to your token.`,
      );
    case 404:
      return new KvspliceError("bad_argument", `There is no ${what}. Check the spelling.`);
    case 429:
      return new KvspliceError(
        "unreachable",
        `The hub has received too many requests and refuses ${what} for now. Try again in a few minutes, or set HF_TOKEN.`,
      );
    default:
      return new KvspliceError("unreachable", `The server responded with ${status} for ${what}. Try again later.`);
  }
}
