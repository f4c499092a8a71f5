import type { Context } from "hono";
import type { Environment } from "./environment.js";

/**
 * The server's origin as the client sees it. A TLS proxy in front of it sends `x-forwarded-proto: https`. No other header of
 * this kind is trusted, and this one only changes the URLs in the answer to its sender.
 */
export function originOf({ req }: Context<Environment>): string {
  const { protocol, host } = new URL(req.url);
  const seen = req.header("x-forwarded-proto")?.split(",")[0]!.trim().toLowerCase();
  return `${seen === "https" ? "https:" : protocol}//${host}`;
}
