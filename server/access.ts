import { createHash, timingSafeEqual } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import { type ApiKey, Rate } from "./api-key.js";
import { OfferList } from "./catalogue.js";
import type { Environment } from "./environment.js";
import { ApiError } from "./error.js";

/** Names that a browser on this machine can use to reach a server on a loopback address. */
const LOOPBACK_NAMES = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Whether a listening address can only be reached from this machine. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/**
 * Refuses requests whose Host is not a name of this machine. Otherwise a page of another site whose name was made to point
 * here (DNS rebinding) could read the answers of a server that needs no key.
 */
export function onlyLoopbackNames(): MiddlewareHandler {
  return async (c, next) => {
    const name = (c.req.header("host") ?? "").replace(/:\d+$/, "").toLowerCase();
    if (!LOOPBACK_NAMES.has(name)) {
      throw new ApiError(
        403,
        `This server only accepts requests to localhost, but this one is to '${name.slice(0, 100)}'. To allow other names, for instance from a container, start it with --host 0.0.0.0 and --api-key.`,
        { code: "host_not_allowed" },
      );
    }
    await next();
  };
}

/**
 * Admits requests that carry one of the keys, to the corpora and at the rate that the key allows. Without keys, admits all.
 * @param fair whether keys share the machine by the work done for each
 */
export function onlyWithKey(keys: readonly ApiKey[], catalogue: OfferList, fair: boolean): MiddlewareHandler<Environment> {
  const known = keys.map(({ key, corpora, requests_per_minute, weight = 1 }, index) => ({
    digest: digest(key),
    offers: corpora ? new OfferList(catalogue.offers.filter(({ corpus }) => corpora.includes(corpus))) : catalogue,
    client: { id: String(index), weight },
    rate: requests_per_minute === undefined ? undefined : new Rate(requests_per_minute),
  }));
  return async (c, next) => {
    c.set("offers", catalogue);
    if (known.length > 0) {
      const header = c.req.header("authorization");
      const challenge = { "www-authenticate": "Bearer" };
      if (header === undefined) {
        throw new ApiError(401, "No API key was given. Send the header authorization: Bearer KEY.", {
          code: "missing_api_key",
          headers: challenge,
        });
      }
      const given = digest(/^bearer +(.*)$/i.exec(header)?.[1] ?? "");
      // Digests have the same length, and all keys are compared, so the time reveals nothing about them.
      const [match] = known.filter((each) => timingSafeEqual(each.digest, given));
      if (!match) throw new ApiError(401, "The API key is wrong.", { code: "invalid_api_key", headers: challenge });
      const wait_s = match.rate?.take() ?? 0;
      if (wait_s > 0)
        throw new ApiError(429, `This key has reached its request limit. Try again in ${wait_s} s.`, {
          code: "rate_limit_exceeded",
          headers: { "retry-after": String(wait_s) },
        });
      c.set("offers", match.offers);
      if (fair) c.set("client", match.client);
    }
    await next();
  };
}

function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}
