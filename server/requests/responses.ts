import { z } from "zod";
import { othersFields, ownFields, refuseTools } from "./chat.js";
import { type ObjectOf, objectOf } from "./object.js";
import { samplingFields } from "./sampling.js";
import { responseToolFields, textFormatField } from "./tools.js";

/** One item of a response's input. */
export type InputItem = z.output<ReturnType<typeof inputItem>>;

const { logprobs: _, ...sampling } = samplingFields;

/** A body of `POST /v1/responses` (https://platform.openai.com/docs/api-reference/responses). */
export function responsesRequest(strict: boolean) {
  const object = objectOf(strict);
  const items = z.array(inputItem(object)).min(1);
  return object({
    model: z.string().optional(),
    input: z
      .union([z.string().min(1), items], { error: "expected a text or a list of items" })
      .transform((value): readonly InputItem[] =>
        typeof value === "string" ? [{ type: "message", role: "user", content: value }] : value,
      ),
    instructions: z.string().nullish(),
    previous_response_id: z.string().nullish(),
    store: z.boolean().nullish(),
    stream: z.boolean().nullish(),
    stream_options: object({ include_obfuscation: z.boolean().nullish() }).nullish(),
    max_output_tokens: z.int().min(1).nullish(),
    ...sampling,
    include: z.array(z.string()).nullish(),
    text: object({ format: textFormatField(object), verbosity: z.string().nullish() }).nullish(),
    ...responseToolFields(object),
    ...ownFields(object),
    ...othersFields,

    // Fields that OpenAI's clients send and that have no meaning here. What does not fit is always dropped, oldest first (`truncation`).
    metadata: z.record(z.string(), z.string()).nullish(),
    truncation: z.enum(["auto", "disabled"]).nullish(),
    reasoning: z.unknown().optional(),
    max_tool_calls: z.int().nullish(),
    user: z.string().nullish(),
    service_tier: z.string().nullish(),
    safety_identifier: z.string().nullish(),
    prompt_cache_key: z.string().nullish(),
    prompt_cache_retention: z.string().nullish(),

    background: z.literal(false, { error: "background answers are not supported; leave this out" }).nullish(),
    conversation: z.null({ error: "conversations are not supported; send previous_response_id, or all items" }).optional(),
  }).check((ctx) => {
    const { value, issues } = ctx;
    const refuse = (path: string, message: string) => issues.push({ code: "custom", path: [path], message, input: value });
    if (value.schema != null || value.prompt != null || value.data != null)
      refuse("schema", "use /v1/chat/completions for prompts of schemas");
    if (value.documents != null && value.corpus) refuse("documents", "expected either documents or corpus");
    if (value.link_tokens != null && !value.corpus && value.documents == null)
      refuse("link_tokens", "link tokens follow documents, but there are none");
    refuseTools(value, refuse);
  });
}

export type ResponsesRequest = z.output<ReturnType<typeof responsesRequest>>;

function inputItem(object: ObjectOf) {
  const part = object({
    type: z.enum(["input_text", "output_text", "text"], { error: "only text is supported" }),
    text: z.string(),
    annotations: z.unknown().optional(),
    logprobs: z.unknown().optional(),
  });
  const content = z
    .union([z.string(), z.array(part)], { error: "expected a string or a list of text parts" })
    .transform((value) => (typeof value === "string" ? value : value.map(({ text }) => text).join("")));
  const id = z.string().nullish();
  const status = z.string().nullish();
  const role = z.enum(["user", "assistant", "system", "developer"]).transform((value) => (value === "developer" ? "system" : value));
  const items = z.discriminatedUnion(
    "type",
    [
      object({ type: z.literal("message"), role, content, id, status }),
      object({ type: z.literal("item_reference"), id: z.string() }),
      object({ type: z.literal("function_call"), call_id: z.string(), name: z.string(), arguments: z.string(), id, status }),
      object({ type: z.literal("function_call_output"), call_id: z.string(), output: content, id, status }),
      object({
        type: z.literal("reasoning"),
        id,
        status,
        summary: z.unknown().optional(),
        content: z.unknown().optional(),
        encrypted_content: z.unknown().optional(),
      }),
    ],
    { error: "expected a message, item_reference, function_call, function_call_output or reasoning" },
  );
  // Messages and references may omit the type.
  return z.preprocess((item) => (isUntyped(item) ? { ...item, type: "role" in item ? "message" : "item_reference" } : item), items);
}

function isUntyped(item: unknown): item is object {
  return typeof item === "object" && item !== null && !Array.isArray(item) && (!("type" in item) || item.type === null);
}
