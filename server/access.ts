import { createHash, timingSafeEqual } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import { ApiError } from "./error.js";

/** Names by which a browser on this machine may reach a server on a loopback address. */
const LOOPBACK_NAMES = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Whether an address that is listened on is reached from this machine alone. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/**
 * Refuses requests whose Host is none of this machine's: a page of another site whose name was made to point here (DNS
 * rebinding) would read the answers of a server that asks for no key.
 */
export function onlyLoopbackNames(): MiddlewareHandler {
  return async (c, next) => {
    const name = (c.req.header("host") ?? "").replace(/:\d+$/, "").toLowerCase();
    if (!LOOPBACK_NAMES.has(name)) {
      throw new ApiError(403, `This server answers to localhost alone, and was asked as '${name.slice(0, 100)}'. To be asked by other names, from a container for instance, start it with --host 0.0.0.0 and --api-key.`, { code: "host_not_allowed" });
    }
    await next();
  };
}

/** Lets requests pass that carry one of the keys; all of them where there is none. */
export function onlyWithKey(keys: readonly string[]): MiddlewareHandler {
  const digests = keys.map(digest);
  return async (c, next) => {
    if (digests.length > 0) {
      const header = c.req.header("authorization");
      const challenge = { "www-authenticate": "Bearer" };
      if (header === undefined) {
        throw new ApiError(401, "No API key was given; send the header authorization: Bearer KEY.", { code: "missing_api_key", headers: challenge });
      }
      const given = digest(/^bearer +(.*)$/i.exec(header)?.[1] ?? "");
      // Digests are of one length, and all keys are compared: the time tells nothing of them.
      const matches = digests.filter((known) => timingSafeEqual(known, given)).length;
      if (matches === 0) throw new ApiError(401, "The API key is wrong.", { code: "invalid_api_key", headers: challenge });
    }
    await next();
  };
}

function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}
