import { Hono } from "hono";
import { z } from "zod";
import { readBody } from "../body.js";
import type { Environment } from "../environment.js";
import { objectOf } from "../requests/object.js";
import { warningsOf } from "../requests/warnings.js";
import { respondWhole } from "../respond.js";
import type { Shared } from "../service.js";
import { EMBEDDING_MODEL, mustBeEmbedder } from "./models.js";

/** OpenAI's limits: inputs, and tokens per input. */
const MAX_INPUTS = 2_048;
const MAX_INPUT_TOKENS = 8_192;

/** Token ids belong to a vocabulary that this server does not know: in most clients that send them, OpenAI's. */
const TOKEN_IDS =
  "token ids belong to another model's vocabulary; make the client send texts (LangChain in Python: OpenAIEmbeddings(check_embedding_ctx_length=False))";

const one = z.string().min(1, "the input is empty; leave it out");
const input = z
  .union(
    [
      one,
      z
        .array(z.string({ error: TOKEN_IDS }))
        .min(1)
        .max(MAX_INPUTS),
    ],
    { error: "expected a text or a list of texts" },
  )
  .transform((value) => (typeof value === "string" ? [value] : value));

function embeddingRequest(strict: boolean, dimensions: number) {
  return objectOf(strict)({
    model: z.string().optional(),
    input,
    encoding_format: z.enum(["float", "base64"]).nullish(),
    dimensions: z.literal(dimensions, { error: `vectors have ${dimensions} dimensions; leave this out` }).nullish(),
    user: z.string().nullish(),
  });
}

/** `POST /v1/embeddings` (https://platform.openai.com/docs/api-reference/embeddings) */
export function embeddingRoutes(shared: Shared): Hono<Environment> {
  const { embedder, limits, strict = false } = shared;
  const schema = embeddingRequest(strict, embedder.dimensions);
  return new Hono<Environment>().post("/v1/embeddings", async (c) => {
    const { request, unread } = await readBody(c, schema);
    const { model, input, encoding_format } = request;
    mustBeEmbedder(model);
    return respondWhole(c, shared, async ({ signal }) => {
      const vectors = await embedder.embed(input, { signal, mostTokens: MAX_INPUT_TOKENS });
      const data = vectors.map((vector, index) => ({
        object: "embedding",
        index,
        embedding: encoding_format === "base64" ? base64(vector) : [...vector],
      }));
      const tokens = await embedder.countTokens(input);
      const warnings = warningsOf({}, unread, limits.contextTokens);
      return {
        object: "list",
        data,
        model: EMBEDDING_MODEL,
        usage: { prompt_tokens: tokens, total_tokens: tokens },
        ...(warnings.length > 0 && { warnings }),
      };
    });
  });
}

/** Little-endian float32, as OpenAI's clients read it. */
function base64(vector: Float32Array): string {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString("base64");
}
