import { Hono } from "hono";
import { withoutTag } from "../catalogue.js";
import type { Environment } from "../environment.js";
import { ApiError } from "../error.js";

/** The name that clients use for the embedder. */
export const EMBEDDING_MODEL = "all-MiniLM-L6-v2";

/** `GET /v1/models` and `/v1/models/:id` */
export function modelRoutes(): Hono<Environment> {
  const created = Math.floor(Date.now() / 1000);
  const entry = (id: string) => ({ id, object: "model", created, owned_by: "kvsplice" });
  return new Hono<Environment>()
    .get("/v1/models", (c) => c.json({ object: "list", data: c.var.offers.ids.map(entry) }))
    .get("/v1/models/:id{.+}", (c) => {
      const { id } = c.req.param();
      // Clients offer all listed models for chats, so the embedder is not listed, but found by name.
      const found = [...c.var.offers.ids.map(entry), entry(EMBEDDING_MODEL)].find((each) => each.id === withoutTag(id));
      if (!found)
        throw new ApiError(404, "This server does not have this model. GET /v1/models lists its models.", {
          param: "model",
          code: "model_not_found",
        });
      return c.json(found);
    });
}

/** @throws ApiError 404 for a model other than the embedder; no name and `default` mean the embedder */
export function mustBeEmbedder(asked: string | undefined): void {
  if (asked === undefined || asked === "default" || withoutTag(asked) === EMBEDDING_MODEL) return;
  throw new ApiError(404, `This server does not have this model. Use '${EMBEDDING_MODEL}'.`, { param: "model", code: "model_not_found" });
}
