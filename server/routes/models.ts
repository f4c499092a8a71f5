import { Hono } from "hono";
import type { Environment } from "../environment.js";
import { ApiError } from "../error.js";
import type { Service } from "../service.js";

/** The embedder as clients name it. */
export const EMBEDDING_MODEL = "all-MiniLM-L6-v2";

/** `GET /v1/models` and `/v1/models/:id` */
export function modelRoutes({ model }: Service): Hono<Environment> {
  const created = Math.floor(Date.now() / 1000);
  const models = [model.name, EMBEDDING_MODEL].map((id) => ({ id, object: "model", created, owned_by: "kvsplice" }));
  return new Hono<Environment>()
    .get("/v1/models", (c) => c.json({ object: "list", data: models }))
    .get("/v1/models/:id", (c) => {
      const { id } = c.req.param();
      const found = models.find((each) => each.id === id);
      if (!found) throw unknownModel();
      return c.json(found);
    });
}

/** @throws ApiError 404 for a model that this route does not have */
export function mustBeModel(asked: string, id: string): void {
  if (asked !== id) throw unknownModel(id);
}

function unknownModel(id?: string): ApiError {
  const remedy = id === undefined ? "GET /v1/models lists those that there are" : `use '${id}'`;
  return new ApiError(404, `The model does not exist here; ${remedy}.`, { param: "model", code: "model_not_found" });
}
