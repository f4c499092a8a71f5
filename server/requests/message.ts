import { z } from "zod";
import type { ObjectOf } from "./object.js";

/** A message of a request, with its parts joined. */
export type RequestMessage = z.output<ReturnType<typeof messageSchema>>;

/** `messages[i]` of OpenAI's API (https://platform.openai.com/docs/api-reference/chat/create). */
export function messageSchema(object: ObjectOf) {
  const text = object({ type: z.literal("text", { error: "only text is supported" }), text: z.string() });
  const parts = z.union([z.string(), z.array(text)], { error: "expected a string or a list of text parts" });
  const content = parts.transform(joined);
  const name = z.string().optional();

  const call = object({ name: z.string(), arguments: z.string() });
  const toolCall = object({
    id: z.string(),
    type: z.literal("function", { error: "only functions are supported" }).default("function"),
    function: call,
  });

  const instruction = object({ role: z.enum(["system", "developer"]).transform(() => "system" as const), content, name });
  const user = object({ role: z.literal("user"), content, name });
  /** An answer of this server. Clients send back the whole message. */
  const assistant = object({
    role: z.literal("assistant"),
    content: parts.nullish().transform((value) => joined(value ?? "")),
    name,
    refusal: z.null().optional(),
    annotations: z.array(z.unknown()).optional(),
    audio: z.null({ error: "audio is not supported; leave it out" }).optional(),
    tool_calls: z.array(toolCall).nullish(),
    function_call: call.nullish(),
    kvsplice: z.unknown().optional(),
  });
  const tool = object({ role: z.literal("tool"), content, tool_call_id: z.string(), name });
  const result = object({ role: z.literal("function"), content, name: z.string() });
  return z.discriminatedUnion("role", [instruction, user, assistant, tool, result], {
    error: "expected a message of role system, developer, user, assistant or tool",
  });
}

function joined(value: string | readonly { readonly text: string }[]): string {
  return typeof value === "string" ? value : value.map((part) => part.text).join("");
}
