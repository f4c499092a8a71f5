import { type CallForm, KvspliceError, type ToolCall, type ToolTurns, writeCalls, writeResults } from "../../plan/index.js";
import type { Message } from "../message.js";

/** A message as programs have it: an assistant's with its calls, and a tool's with a call's result and id. */
export type Said =
  | { readonly role: "system" | "user"; readonly content: string }
  | { readonly role: "assistant"; readonly content: string; readonly calls?: readonly SaidCall[] }
  | { readonly role: "tool"; readonly content: string; readonly id?: string | undefined };

/** A result without an id belongs to the call at the same place. */
type SaidCall = ToolCall & { readonly id?: string | undefined };

/** How calls are written, and how their results are, if the template has turns for them. */
export type ToolForm = { readonly form: CallForm; readonly turns: ToolTurns | undefined };

/**
 * Messages in the form that a chat template takes: calls are in the assistant's text, as the model writes them, and results
 * in separate turns if the template has such turns, or else in the user's.
 * @throws KvspliceError `bad_argument` if the template has no place for a message of role tool, or for this many calls
 */
export function spoken(messages: readonly Said[], { form, turns }: ToolForm): Message[] {
  return turns ? inTurns(messages, form, turns) : inUserTurns(messages, form);
}

function inUserTurns(messages: readonly Said[], form: CallForm): Message[] {
  const said: Message[] = [];
  let results: string[] = [];
  const sayResults = () => {
    if (results.length > 0) said.push({ role: "user", content: writeResults(results) });
    results = [];
  };
  for (const message of messages) {
    if (message.role === "tool")
      results.push(message.content); // results of one step are one turn
    else {
      sayResults();
      said.push({
        role: message.role,
        content: message.role === "assistant" ? writeCalls(form, message.content, message.calls ?? []) : message.content,
      });
    }
  }
  sayResults();
  return said;
}

function inTurns(messages: readonly Said[], form: CallForm, turns: ToolTurns): Message[] {
  let ids: readonly string[] = [];
  let results = 0;
  return wholeAnswers(messages).map((message): Message => {
    if (message.role === "tool") {
      const id = message.id ?? ids[results];
      if (id === undefined || !ids.includes(id)) throw noCall(message.id);
      return { role: "tool", content: message.content, written: turns.result(message.content, id, results++ === 0) };
    }
    const calls = (message.role === "assistant" ? (message.calls ?? []) : []).map((call, i) => ({
      ...call,
      id: call.id ?? `${i} ${call.name}`,
    }));
    [ids, results] = [calls.map(({ id }) => id), 0];
    if (calls.length === 0) return { role: message.role, content: message.content };
    return { role: "assistant", content: writeCalls(form, message.content, calls), written: turns.calls(calls) };
  });
}

/** Merges an answer whose calls are separate messages, as in responses, into one message. */
function wholeAnswers(messages: readonly Said[]): Said[] {
  const whole: Said[] = [];
  for (const message of messages) {
    const before = whole.at(-1);
    if (message.role === "assistant" && message.calls?.length && before?.role === "assistant") {
      const content = [before.content, message.content].filter((text) => text !== "").join("\n");
      whole[whole.length - 1] = { role: "assistant", content, calls: [...(before.calls ?? []), ...message.calls] };
    } else whole.push(message);
  }
  return whole;
}

function noCall(id: string | undefined): KvspliceError {
  const which = id === undefined ? "" : ` of the call '${id}'`;
  return new KvspliceError(
    "bad_argument",
    `The result${which} does not follow an assistant message that requests it; this model's chat template has no other place for it. ` +
      "Send that message with its tool_calls before it.",
  );
}
