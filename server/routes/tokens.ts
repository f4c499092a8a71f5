import { Hono } from "hono";
import { z } from "zod";
import { toolForm } from "../../chat/index.js";
import { type Tokenizer, tokensOf } from "../../engine/index.js";
import { inSlices } from "../../plan/index.js";
import { readBody } from "../body.js";
import type { Environment } from "../environment.js";
import { ApiError } from "../error.js";
import { tokenText } from "../logprobs.js";
import { messageSchema } from "../requests/message.js";
import { objectOf } from "../requests/object.js";
import { spokenRequest } from "../requests/spoken.js";
import { withService } from "../respond.js";
import type { Shared } from "../service.js";

/** `POST /tokenize` and `/detokenize`, with the fields of llama.cpp (`content`) and of vLLM (`prompt`, `messages`). */
export function tokenRoutes(shared: Shared): Hono<Environment> {
  const { strict = false } = shared;
  const object = objectOf(strict);
  const tokenize = object({
    model: z.string().optional(),
    content: z.string().nullish(),
    prompt: z.string().nullish(),
    messages: z.array(messageSchema(object)).min(1).nullish(),
    /** Whether to recognise control tokens in the text; true by default, as in /v1/completions. */
    parse_special: z.boolean().nullish(),
    add_special: z.boolean().nullish(),
    add_special_tokens: z.boolean().nullish(),
    with_pieces: z.boolean().nullish(),
    return_token_strs: z.boolean().nullish(),
  }).refine(({ content, prompt, messages }) => [content, prompt, messages].filter((each) => each != null).length === 1, {
    path: ["content"],
    message: "expected one of content, prompt and messages",
  });
  const detokenize = object({ model: z.string().optional(), tokens: z.array(z.int().min(0)) });

  return new Hono<Environment>()
    .post("/v1/tokenize", async (c) => {
      const { request } = await readBody(c, tokenize);
      return withService(shared, c.var.offers.find(request), async ({ model, conversations, limits }) => {
        const { tokenizer } = model;
        const idsBy = (reader: Tokenizer) =>
          request.messages == null
            ? textIds(request, reader)
            : tokensOf(
                conversations.continue(spokenRequest(request.messages, toolForm(model.chat)), { answerTokens: 0, tokenizer: reader }).plan,
              );
        const ids = await inSlices(tokenizer, { most: Infinity, signal: c.req.raw.signal }, idsBy);
        const tokens = request.with_pieces === true ? ids.map((id) => ({ id, piece: pieceOf(id, tokenizer) })) : ids;
        return c.json({
          tokens,
          count: ids.length,
          max_model_len: limits.contextTokens,
          ...(request.return_token_strs === true && { token_strs: ids.map((id) => tokenText(id, tokenizer)) }),
        });
      });
    })
    .post("/v1/detokenize", async (c) => {
      const { request } = await readBody(c, detokenize);
      return withService(shared, c.var.offers.find(request), ({ model: { tokenizer } }) => {
        const foreign = request.tokens.find((id) => id >= tokenizer.size);
        if (foreign !== undefined)
          throw new ApiError(400, `There is no token ${foreign}. This model has tokens 0 to ${tokenizer.size - 1}.`, {
            param: "tokens",
            code: "invalid_value",
          });
        const text = tokenizer.decode(request.tokens);
        return c.json({ content: text, prompt: text });
      });
    });

  function textIds(
    { content, prompt, parse_special, add_special, add_special_tokens }: z.output<typeof tokenize>,
    tokenizer: Tokenizer,
  ): readonly number[] {
    const begins = add_special ?? add_special_tokens ?? content == null;
    return [...(begins ? tokenizer.begin : []), ...tokenizer.encode((content ?? prompt)!, { control: parse_special !== false })];
  }
}

/** A token's text, or the bytes of a part of a character, as in llama.cpp. */
function pieceOf(id: number, tokenizer: Tokenizer): string | number[] {
  const text = tokenizer.decode([id], { continues: true });
  return text.includes("\uFFFD") ? [...tokenizer.bytesOf(id)] : text;
}
