import { z } from "zod";
import { isLink } from "../../engine/index.js";
import { messageSchema } from "./message.js";
import { type ObjectOf, objectOf } from "./object.js";
import { samplingFields } from "./sampling.js";
import { stopField } from "./stop.js";
import { formatField, type ToolChoiceField, type ToolField, toolFields } from "./tools.js";
import { corpusObject } from "./where.js";

const MAX_DOCUMENTS = 100;
/** Answers per request: somewhat more than are computed together. */
const MAX_ANSWERS = 16;

/** A field that would change the answer and that this server does not support: refused, not ignored. */
const unsupported = (what: string) => z.null({ error: `${what} not supported; leave it out` }).optional();
const emptyList = (what: string) => z.array(z.never()).max(0, `${what} are not supported; leave them out`).nullish();

/** What to answer, and how. */
const answerFields = {
  model: z.string().optional(),
  ...samplingFields,
  stop: stopField,
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  stream: z.boolean().nullish(),
  n: z.int().min(1).max(MAX_ANSWERS).nullish(),
};

/** Fields that kvsplice adds. */
export const ownFields = (object: ObjectOf) => ({
  documents: z
    .array(
      z.union([z.string().min(1), object({ title: z.string().max(1_000).default(""), text: z.string().min(1), url: z.url().nullish() })]),
    )
    .min(1)
    .max(MAX_DOCUMENTS)
    .nullish(),
  corpus: z
    .union([z.string(), z.literal(true), corpusObject(object, MAX_DOCUMENTS)], {
      error: "expected the corpus's name, true, or an object with name, documents (how many), where and floor",
    })
    .nullish()
    .transform((value) => (value == null ? undefined : typeof value === "string" ? { name: value } : value === true ? {} : value)),
  citations: z.boolean().nullish(),
  link: z
    .string()
    .refine((text) => text === "auto" || isLink(text), "expected none, auto, a share from 0 to 1 such as 0.15, 0.15+last, or head=8")
    .nullish(),
  link_tokens: z.int().min(0).nullish(),
  schema: z.string().nullish(),
  prompt: z.string().nullish(),
  data: z.record(z.string(), z.unknown()).nullish(),
});

/** Fields of other servers that have a meaning here. */
export const othersFields = {
  cache_prompt: z.boolean().nullish(),
  num_ctx: z.int().min(64).nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
};

/** Fields that identify the client: see `clientOf`. */
const clientFields = {
  user: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
};

/** Fields that OpenAI's clients send and that have no meaning here. */
const idleFields = {
  metadata: z.record(z.string(), z.string()).nullish(),
  store: z.boolean().nullish(),
  service_tier: z.string().nullish(),
  prompt_cache_retention: z.string().nullish(),
  reasoning_effort: z.string().nullish(),
  verbosity: z.string().nullish(),
  prediction: z.unknown().optional(),
};

/** Known fields that this server does not support. */
const refusedFields = {
  modalities: z.array(z.literal("text", { error: "only text is supported" })).nullish(),
  functions: emptyList("functions"),
  function_call: z.enum(["none", "auto"], { error: "functions are not supported; leave this out" }).nullish(),
  audio: unsupported("audio is"),
  web_search_options: unsupported("web search is"),
};

type ToolRequest = {
  readonly tools?: readonly ToolField[] | null | undefined;
  readonly tool_choice?: ToolChoiceField | null | undefined;
  readonly corpus?: unknown;
  readonly documents?: readonly unknown[] | null | undefined;
};

/** Refuses what is not possible with a request's tools. */
export function refuseTools(
  { tools, tool_choice: choice, corpus, documents }: ToolRequest,
  refuse: (path: string, message: string) => void,
): void {
  const chosen = typeof choice === "object" ? choice?.function.name : undefined;
  if (chosen !== undefined && !tools?.some(({ function: { name } }) => name === chosen))
    refuse("tool_choice", "expected the name of one of the tools");
  if (choice === "required" && !tools?.length) refuse("tool_choice", "a call is required, but there are no tools");
  if (tools?.length && choice !== "none" && (corpus || documents != null))
    refuse("tools", "tools cannot be combined with documents; leave one of them out, or set tool_choice to none");
}

/** A body of `POST /v1/chat/completions`. If strict, unknown fields are refused. */
export function chatRequest(strict: boolean) {
  const object = objectOf(strict);
  return object({
    messages: z.array(messageSchema(object)).default([]),
    ...answerFields,
    stream_options: object({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() }).nullish(),
    response_format: formatField(object),
    ...toolFields(object),
    ...ownFields(object),
    ...othersFields,
    ...clientFields,
    ...idleFields,
    ...refusedFields,
  }).check((ctx) => {
    const { value, issues } = ctx;
    const refuse = (path: string, message: string) => issues.push({ code: "custom", path: [path], message, input: value });
    if (value.schema != null) {
      if (value.prompt == null) refuse("prompt", "expected the PML of a prompt to go with schema");
      if (value.messages.length > 0) refuse("messages", "a schema's prompt has its messages in its markup; leave this out, or empty");
      if (value.corpus || value.documents != null) refuse("schema", "a schema's prompt names its documents in its markup");
      return;
    }
    if (value.data != null) refuse("schema", "expected a schema and a prompt for data to go with");
    if (value.prompt != null) refuse("schema", "expected the name of the schema that prompt belongs to");
    if (value.messages.length === 0) refuse("messages", "expected at least one message");
    else if (!value.messages.some(({ role }) => role === "user")) refuse("messages", "expected a message from the user to answer");
    if (value.documents != null && value.corpus) refuse("documents", "expected either documents or corpus");
    if (value.link_tokens != null && !value.corpus && value.documents == null)
      refuse("link_tokens", "link tokens follow documents, but there are none");
    refuseTools(value, refuse);
    if (value.top_logprobs != null && value.logprobs !== true) refuse("top_logprobs", "set logprobs to true as well");
    if (value.stream_options != null && value.stream !== true) refuse("stream_options", "set stream to true as well");
  });
}

export type ChatRequest = z.output<ReturnType<typeof chatRequest>>;
