import { Hono } from "hono";
import { z } from "zod";
import { readJson } from "../body.js";
import type { Environment } from "../environment.js";
import { requestSignal } from "../request-signal.js";
import type { Service } from "../service.js";
import { EMBEDDING_MODEL, mustBeModel } from "./models.js";

/** OpenAI's limits: inputs, and tokens of each. */
const MAX_INPUTS = 2_048;
const MAX_INPUT_TOKENS = 8_192;

const input = z.string().min(1, "an input is empty; leave it out");

const embeddingRequest = z.strictObject({
  model: z.string(),
  input: z.union([input, z.array(input).min(1).max(MAX_INPUTS)], { error: "expected a text, or a list of texts" }).transform((value) => (typeof value === "string" ? [value] : value)),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: z.int().nullish(),
  user: z.string().nullish(),
});

/** `POST /v1/embeddings` (https://platform.openai.com/docs/api-reference/embeddings) */
export function embeddingRoutes({ embedder, limits, waiting }: Service): Hono<Environment> {
  const request = embeddingRequest.refine(({ dimensions }) => dimensions == null || dimensions === embedder.dimensions, {
    path: ["dimensions"],
    message: `the vectors have ${embedder.dimensions}; leave it out`,
  });
  return new Hono<Environment>().post("/v1/embeddings", async (c) => {
    const { model, input, encoding_format } = await readJson(c, request);
    mustBeModel(model, EMBEDDING_MODEL);
    const leave = waiting.enter();
    const ending = requestSignal(c.req.raw.signal, limits.request_ms);
    try {
      const vectors = await embedder.embed(input, { signal: ending.signal, mostTokens: MAX_INPUT_TOKENS });
      const data = vectors.map((vector, index) => ({ object: "embedding", index, embedding: encoding_format === "base64" ? base64(vector) : [...vector] }));
      const tokens = await embedder.countTokens(input);
      return c.json({ object: "list", data, model: EMBEDDING_MODEL, usage: { prompt_tokens: tokens, total_tokens: tokens } });
    } catch (error) {
      throw ending.explain(error);
    } finally {
      leave();
      ending.dispose();
    }
  });
}

/** Little-endian float32, as OpenAI's clients read it. */
function base64(vector: Float32Array): string {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString("base64");
}
