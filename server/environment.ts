import type { HttpBindings } from "@hono/node-server";
import type { Logger } from "pino";

/** What hono's context carries from the first middleware on. */
export type Environment = { readonly Bindings: HttpBindings; readonly Variables: { log: Logger; bodyLimit_bytes: number } };
