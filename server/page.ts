import { Hono } from "hono";
import type { Environment } from "./environment.js";
import type { Service } from "./service.js";

/** The page at `/`: what the server is, until there is a playground. */
export function pageRoutes({ model }: Service): Hono<Environment> {
  return new Hono<Environment>().get("/", (c) => c.text(`kvsplice serves ${model.name}. Point an OpenAI client at /v1.\n`));
}
