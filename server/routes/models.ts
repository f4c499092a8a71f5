import { Hono } from "hono";
import type { Environment } from "../environment.js";
import { ApiError } from "../error.js";
import type { Service } from "../service.js";

/** The embedder as clients name it. */
export const EMBEDDING_MODEL = "all-MiniLM-L6-v2";

/** `GET /v1/models` and `/v1/models/:id` */
export function modelRoutes({ model, corpusName }: Service): Hono<Environment> {
  const created = Math.floor(Date.now() / 1000);
  const entry = (id: string) => ({ id, object: "model", created, owned_by: "kvsplice" });
  // Whatever is listed, clients offer for chats: the embedder is there for those who ask for it by name.
  const listed = [model.name, corpusModel(model.name, corpusName)].map(entry);
  return new Hono<Environment>()
    .get("/v1/models", (c) => c.json({ object: "list", data: listed }))
    .get("/v1/models/:id{.+}", (c) => {
      const { id } = c.req.param();
      const found = [...listed, entry(EMBEDDING_MODEL)].find((each) => each.id === withoutTag(id));
      if (!found) throw unknownModel();
      return c.json(found);
    });
}

/** The id under which clients that can name a model, and nothing else, ask a corpus. */
export function corpusModel(model: string, corpus: string): string {
  return `${model}/${corpus}`;
}

/** @throws ApiError 404 for a model that this route does not have; none, and `default`, mean the one that it has */
export function mustBeModel(asked: string | undefined, id: string): void {
  if (asked !== undefined && withoutTag(asked) !== id && asked !== "default") throw unknownModel(id);
}

/** Ollama's clients add a tag to names that have none. */
export function withoutTag(id: string): string {
  return id.replace(/:latest$/, "");
}

function unknownModel(id?: string): ApiError {
  const remedy = id === undefined ? "GET /v1/models lists those that there are" : `use '${id}'`;
  return new ApiError(404, `The model does not exist here; ${remedy}.`, { param: "model", code: "model_not_found" });
}
