import { z } from "zod";
import { isLink } from "../engine/index.js";

/** Of the stop texts' number and length OpenAI limits the number; a long one would hold back as much of the answer. */
const MAX_STOPS = 4;
const MAX_STOP_CHARACTERS = 256;
const MAX_TOP_LOGPROBS = 20;
const MAX_DOCUMENTS = 100;

const text = z.strictObject({ type: z.literal("text", { error: "only text is understood" }), text: z.string() });
const content = z.union([z.string(), z.array(text).min(1)], { error: "expected a string or a list of text parts" }).transform((value) => (typeof value === "string" ? value : value.map((part) => part.text).join("")));

const stopText = z.string().min(1).max(MAX_STOP_CHARACTERS);

/** A thing that would change the answer and that this server does not do: named, not passed over. */
const unsupported = (what: string) => z.null({ error: `${what} not supported; leave it out` }).optional();
const emptyList = (what: string) => z.array(z.never()).max(0, `${what} are not supported; leave it out`).nullish();

const instruction = z.strictObject({ role: z.enum(["system", "developer"]).transform(() => "system" as const), content, name: z.string().optional() });
const user = z.strictObject({ role: z.literal("user"), content, name: z.string().optional() });
/** An answer as this server gave it: clients send back the whole message. */
const assistant = z.strictObject({
  role: z.literal("assistant"),
  content,
  name: z.string().optional(),
  refusal: z.null().optional(),
  annotations: z.array(z.unknown()).optional(),
  audio: unsupported("audio is"),
  function_call: unsupported("function calls are"),
  tool_calls: emptyList("tool calls"),
});
const message = z.discriminatedUnion("role", [instruction, user, assistant], { error: "expected a message of role system, developer, user or assistant" });

const givenText = z.strictObject({ title: z.string().max(1_000).default(""), text: z.string().min(1) });

export const chatRequest = z
  .strictObject({
    model: z.string().optional(),
    messages: z.array(message).default([]),

    temperature: z.number().min(0).max(2).nullish(),
    top_p: z.number().gt(0).max(1).nullish(),
    seed: z.int().nullish(),
    stop: z
      .union([stopText, z.array(stopText).max(MAX_STOPS)])
      .nullish()
      .transform((value) => (typeof value === "string" ? [value] : (value ?? []))),
    max_tokens: z.int().min(1).nullish(),
    max_completion_tokens: z.int().min(1).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
    stream: z.boolean().nullish(),
    stream_options: z.strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() }).nullish(),
    n: z.literal(1, { error: "this server gives one answer a request; leave it out, or ask for 1" }).nullish(),

    // What kvsplice adds.
    documents: z.array(z.union([z.string().min(1), givenText])).min(1).max(MAX_DOCUMENTS).nullish(),
    corpus: z.union([z.string(), z.literal(true)], { error: "expected the corpus's name, or true" }).nullish(),
    top_k: z.int().min(1).max(MAX_DOCUMENTS).nullish(),
    link: z
      .string()
      .refine((text) => text === "auto" || isLink(text), "expected none, auto, a share from 0 to 1 such as 0.15, 0.15+last, or head=8")
      .nullish(),
    link_tokens: z.int().min(0).nullish(),
    schema: z.string().nullish(),
    prompt: z.string().nullish(),
    data: z.record(z.string(), z.unknown()).nullish(),

    // Known to OpenAI's clients, and of no meaning here.
    user: z.string().nullish(),
    metadata: z.record(z.string(), z.string()).nullish(),
    store: z.boolean().nullish(),
    service_tier: z.string().nullish(),
    safety_identifier: z.string().nullish(),
    prompt_cache_key: z.string().nullish(),
    prompt_cache_retention: z.string().nullish(),
    parallel_tool_calls: z.boolean().nullish(),
    reasoning_effort: z.string().nullish(),
    verbosity: z.string().nullish(),
    prediction: z.unknown().optional(),

    // Known, and of a meaning that this server does not have.
    frequency_penalty: z.literal(0, { error: "penalties are not supported; leave it out" }).nullish(),
    presence_penalty: z.literal(0, { error: "penalties are not supported; leave it out" }).nullish(),
    logit_bias: z.strictObject({}, { error: "logit biases are not supported; leave it out" }).nullish(),
    response_format: z.strictObject({ type: z.literal("text", { error: "only text is supported" }) }).nullish(),
    modalities: z.array(z.literal("text", { error: "only text is supported" })).nullish(),
    tools: emptyList("tools"),
    tool_choice: z.enum(["none", "auto"], { error: "tools are not supported; leave it out" }).nullish(),
    functions: emptyList("functions"),
    function_call: z.enum(["none", "auto"], { error: "functions are not supported; leave it out" }).nullish(),
    audio: unsupported("audio is"),
    web_search_options: unsupported("web search is"),
  })
  .check((ctx) => {
    const { value, issues } = ctx;
    const refuse = (path: string, message: string) => issues.push({ code: "custom", path: [path], message, input: value });
    if (value.schema != null) {
      if (value.prompt == null) refuse("prompt", "expected the PML of a prompt beside schema");
      if (value.messages.length > 0) refuse("messages", "a prompt of a schema has its messages in its own markup; leave it out, or empty");
      if (value.corpus != null || value.documents != null) refuse("schema", "a prompt of a schema names its documents in its own markup");
      return;
    }
    if (value.data != null) refuse("schema", "expected the name of the schema, and a prompt of it, that data is for");
    if (value.prompt != null) refuse("schema", "expected the name of the schema that prompt belongs to");
    if (value.messages.length === 0) refuse("messages", "expected at least one message");
    else if (value.messages.at(-1)!.role === "assistant") refuse("messages", "expected the last message to be the user's: it is what is answered");
    else if (!value.messages.some(({ role }) => role === "user")) refuse("messages", "expected a message of the user: it is what is answered");
    if (value.documents != null && value.corpus != null) refuse("documents", "expected either documents or corpus");
    if (value.top_k != null && value.corpus == null) refuse("top_k", "top_k belongs to corpus, and no corpus is named");
    if (value.link_tokens != null && value.corpus == null && value.documents == null) refuse("link_tokens", "link tokens stand after documents, and there are none");
    if (value.top_logprobs != null && value.logprobs !== true) refuse("top_logprobs", "set logprobs to true as well");
    if (value.stream_options != null && value.stream !== true) refuse("stream_options", "set stream to true as well");
  });

export type ChatRequest = z.output<typeof chatRequest>;
