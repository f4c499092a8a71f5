import { cancelledError, KvspliceError } from "../../../plan/index.js";
import type { HubSettings } from "./settings.js";

/** A connection, and then a server that sends nothing, are given up after so long. */
const CONNECT_MS = 10_000;
const SILENCE_MS = 30_000;

export type Fetch = typeof fetch;

/**
 * A `fetch` that goes by the proxies of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` (in lower case, too), does not wait
 * for ever, and shows the token to the hub and to nobody else.
 */
export async function hubFetch({ endpoint, token }: HubSettings, signal?: AbortSignal): Promise<Fetch> {
  const { EnvHttpProxyAgent, fetch } = await import("undici");
  const dispatcher = new EnvHttpProxyAgent({ connect: { timeout: CONNECT_MS }, headersTimeout: SILENCE_MS, bodyTimeout: SILENCE_MS });
  const { origin } = new URL(endpoint);
  return (async (input: string | URL, init: RequestInit = {}) => {
    const url = new URL(input);
    const headers = new Headers(init.headers);
    headers.set("user-agent", "kvsplice");
    // fetch takes it off again where the hub sends on to another host.
    if (token !== undefined && url.origin === origin) headers.set("authorization", `Bearer ${token}`);
    return fetch(url, { ...(init as object), headers: Object.fromEntries(headers), dispatcher, ...(signal && { signal }) });
  }) as unknown as Fetch;
}

/** What went wrong on the way to a server, as an error that says what to do. */
export function connectionError(cause: unknown, url: string, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return cancelledError(signal);
  if (cause instanceof KvspliceError) return cause;
  const inner = (cause as { cause?: { code?: string; message?: string } } | undefined)?.cause;
  const why = inner?.code ?? inner?.message ?? (cause instanceof Error ? cause.message : String(cause));
  return new KvspliceError(
    "unreachable",
    `${new URL(url).host} cannot be reached (${why}). See to the network, or to HTTPS_PROXY and HF_ENDPOINT; what is here already works with HF_HUB_OFFLINE=1.`,
    { cause },
  );
}

/** What a server's refusal means for who asked for `what`. */
export function refusalError(status: number, what: string, hasToken: boolean): KvspliceError {
  switch (status) {
    case 401:
    case 403:
      return new KvspliceError(
        "unreachable",
        hasToken
          ? `The hub does not give out ${what} to the token that is set. Accept its licence on its page, or set HF_TOKEN to a token that may read it.`
          : `The hub gives out ${what} to some users alone, or has no such thing. Accept its licence on its page, and set HF_TOKEN to a token of yours.`,
      );
    case 404:
      return new KvspliceError("bad_argument", `There is no ${what}. See to the spelling.`);
    case 429:
      return new KvspliceError("unreachable", `The hub has had too many requests, and does not give out ${what} now. Try again in some minutes, or set HF_TOKEN.`);
    default:
      return new KvspliceError("unreachable", `The server answered ${status} for ${what}. Try again later.`);
  }
}
