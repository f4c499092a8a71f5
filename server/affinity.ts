import { createHash, randomBytes } from "node:crypto";
import type { Context, MiddlewareHandler } from "hono";
import { getCookie } from "hono/cookie";
import type { Offer } from "./catalogue.js";
import type { Environment } from "./environment.js";

/** Response header that a client sends back with the next turn. */
export const AFFINITY_HEADER = "x-kvsplice-affinity";
/** The same, for clients that keep cookies but not headers. */
export const AFFINITY_COOKIE = "kvsplice-affinity";

/** How long a browser keeps the cookie. */
const COOKIE_S = 86_400;

/** Corpus and conversation. Proxies hash the whole, so a conversation returns to the server that has it in memory. */
const TOKEN = /^([0-9a-f]{8})-([0-9a-f]{16})$/;

/**
 * Gives the request an affinity token: that of the conversation its client sent, or a new one.
 * @returns the conversation's name, if the client sent it in the header. A cookie is shared by all conversations of a browser
 */
export function giveAffinity(c: Context<Environment>, { model, corpus }: Offer): string | undefined {
  const [brought, cookie] = [TOKEN.exec(c.req.header(AFFINITY_HEADER) ?? ""), TOKEN.exec(getCookie(c, AFFINITY_COOKIE) ?? "")];
  const of = createHash("sha256")
    .update(JSON.stringify([model, corpus]))
    .digest("hex")
    .slice(0, 8);
  const conversation = brought?.[2] ?? cookie?.[2] ?? randomBytes(8).toString("hex");
  c.set("affinity", `${of}-${conversation}`);
  return brought || !cookie ? conversation : undefined;
}

/** Puts the request's affinity token into its response. */
export function withAffinity(): MiddlewareHandler<Environment> {
  return async (c, next) => {
    await next();
    const { affinity } = c.var;
    if (affinity === undefined) return;
    c.header(AFFINITY_HEADER, affinity);
    c.header("set-cookie", `${AFFINITY_COOKIE}=${affinity}; Path=/; Max-Age=${COOKIE_S}; HttpOnly; SameSite=Lax`, { append: true });
  };
}
