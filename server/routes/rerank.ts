import { Hono } from "hono";
import { z } from "zod";
import { readBody } from "../body.js";
import type { Environment } from "../environment.js";
import { objectOf } from "../requests/object.js";
import { warningsOf } from "../requests/warnings.js";
import { respondWhole } from "../respond.js";
import type { Shared } from "../service.js";
import { EMBEDDING_MODEL, mustBeEmbedder } from "./models.js";

const MAX_DOCUMENTS = 2_048;
const MAX_TEXT_TOKENS = 8_192;

/**
 * `POST /v1/rerank`, in the format of Jina and Cohere. A document's score is the cosine similarity of its embedding and the
 * query's, as in a semantic search. No model reads both together.
 */
export function rerankRoutes(shared: Shared): Hono<Environment> {
  const { embedder, limits, strict = false } = shared;
  const object = objectOf(strict);
  const document = z
    .union([z.string(), object({ text: z.string() })], { error: "expected a text or an object with text" })
    .transform((value) => (typeof value === "string" ? value : value.text));
  const schema = object({
    model: z.string().optional(),
    query: z.string().min(1),
    documents: z.array(document).min(1).max(MAX_DOCUMENTS),
    top_n: z.int().min(1).nullish(),
    return_documents: z.boolean().nullish(),
  });
  return new Hono<Environment>().post("/v1/rerank", async (c) => {
    const { request, unread } = await readBody(c, schema);
    mustBeEmbedder(request.model);
    const { query, documents, top_n, return_documents } = request;
    return respondWhole(c, shared, async ({ signal }) => {
      const [asked, ...vectors] = await embedder.embed([query, ...documents], { signal, mostTokens: MAX_TEXT_TOKENS });
      const results = vectors
        .map((vector, index) => ({
          index,
          relevance_score: cosine(asked!, vector),
          ...(return_documents === true && { document: { text: documents[index]! } }),
        }))
        .toSorted((a, b) => b.relevance_score - a.relevance_score)
        .slice(0, top_n ?? documents.length);
      const tokens = await embedder.countTokens([query, ...documents]);
      const warnings = warningsOf({}, unread, limits.contextTokens);
      return {
        model: EMBEDDING_MODEL,
        results,
        usage: { prompt_tokens: tokens, total_tokens: tokens },
        ...(warnings.length > 0 && { warnings }),
      };
    });
  });
}

/** The cosine of two vectors of length 1. */
function cosine(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}
