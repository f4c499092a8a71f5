import { type Message, type Said, spoken, type ToolForm } from "../../chat/index.js";
import type { RequestMessage } from "./message.js";

/** A request's messages in the form that a chat template takes. */
export function spokenRequest(messages: readonly RequestMessage[], form: ToolForm): Message[] {
  return spoken(messages.map(saidBy), form);
}

function saidBy(message: RequestMessage): Said {
  const { role, content } = message;
  if (role === "tool" || role === "function")
    return { role: "tool", content, id: message.role === "tool" ? message.tool_call_id : undefined };
  return role === "assistant" ? { role, content, calls: callsOf(message) } : { role, content };
}

function callsOf({ tool_calls, function_call }: Extract<RequestMessage, { role: "assistant" }>) {
  return [...(tool_calls ?? []).map(({ id, function: called }) => ({ ...called, id })), ...(function_call ? [function_call] : [])];
}
