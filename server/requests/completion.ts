import { z } from "zod";
import { objectOf } from "./object.js";
import { samplingFields } from "./sampling.js";
import { stopField } from "./stop.js";

const MAX_PROMPTS = 64;
const MAX_LOGPROBS = 20;
const MAX_ANSWERS = 16;

const token = z.int().min(0);
const text = z.string();
const { logprobs: _, top_logprobs: __, ...sampling } = samplingFields;

/** A body of `POST /v1/completions` (https://platform.openai.com/docs/api-reference/completions). */
export function completionRequest(strict: boolean) {
  const object = objectOf(strict);
  return object({
    model: z.string().optional(),
    /** Texts or token ids of this model. */
    prompt: z
      .union([text, z.array(text).min(1).max(MAX_PROMPTS), z.array(token).min(1), z.array(z.array(token).min(1)).min(1).max(MAX_PROMPTS)], {
        error: "expected a text, token ids, or a list of either",
      })
      .transform(promptsOf),
    ...sampling,
    logprobs: z.int().min(0).max(MAX_LOGPROBS).nullish(),
    stop: stopField,
    max_tokens: z.int().min(1).nullish(),
    stream: z.boolean().nullish(),
    stream_options: object({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() }).nullish(),
    n: z.int().min(1).max(MAX_ANSWERS).nullish(),
    best_of: z.int().min(1).max(MAX_ANSWERS).nullish(),
    echo: z.boolean().nullish(),
    suffix: z
      .literal("", { error: "suffix is not supported; leave it out, and write the model's fill-in-the-middle tokens into the prompt" })
      .nullish(),
    cache_prompt: z.boolean().nullish(),
    num_ctx: z.int().min(1).nullish(),
    user: z.string().nullish(),
  }).check((ctx) => {
    const { value, issues } = ctx;
    const refuse = (path: string, message: string) => issues.push({ code: "custom", path: [path], message, input: value });
    const { n, best_of, stream, echo, logprobs, stream_options } = value;
    if (best_of != null && best_of < (n ?? 1)) refuse("best_of", "expected at least n");
    if (best_of != null && best_of > (n ?? 1) && stream === true)
      refuse("best_of", "the best answers are only known at the end; leave out stream or best_of");
    if (echo === true && logprobs != null) refuse("echo", "log probabilities of prompts are not supported; leave out echo or logprobs");
    if (stream_options != null && stream !== true) refuse("stream_options", "set stream to true as well");
  });
}

export type CompletionRequest = z.output<ReturnType<typeof completionRequest>>;

function promptsOf(value: string | readonly (string | number | readonly number[])[]): readonly (string | readonly number[])[] {
  if (typeof value === "string") return [value];
  return typeof value[0] === "number" ? [value as readonly number[]] : (value as readonly (string | readonly number[])[]);
}
