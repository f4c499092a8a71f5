import type { CallForm } from "./chat-template.js";

/** A call requested by a model; `arguments` is the text of a JSON object, as the model wrote it. */
export type ToolCall = { readonly name: string; readonly arguments: string };

/** The text around the objects of calls, and the name of an object's arguments. */
type Spelling = {
  readonly before: string;
  readonly begin: string;
  readonly end: string;
  readonly between: string;
  readonly after: string;
  readonly argumentsKey: string;
};

export const SPELLINGS: Readonly<Record<CallForm, Spelling>> = {
  tags: { before: "", begin: "<tool_call>\n", end: "\n</tool_call>", between: "\n", after: "", argumentsKey: "arguments" },
  list: { before: "[", begin: "", end: "", between: ", ", after: "]", argumentsKey: "arguments" },
  object: { before: "", begin: "", end: "", between: "", after: "", argumentsKey: "parameters" },
};

/** Calls as the model writes them, after what it says. @param ids ids of the calls, if their objects have them */
export function writeCalls(form: CallForm, said: string, calls: readonly ToolCall[], ids: readonly string[] = []): string {
  if (calls.length === 0) return said;
  const { before, begin, end, between, after } = SPELLINGS[form];
  const texts = calls.map(
    (call, i) => `${begin}${callStart(form, call.name)}${call.arguments}${i in ids ? `, "id": ${JSON.stringify(ids[i])}` : ""}}${end}`,
  );
  return `${said}${said === "" ? "" : "\n"}${before}${texts.join(between)}${after}`;
}

/** A call's text up to the start of its arguments. */
export function callStart(form: CallForm, name: string): string {
  return `{"name": ${JSON.stringify(name)}, "${SPELLINGS[form].argumentsKey}": `;
}

/** What functions returned, as one user turn. */
export function writeResults(results: readonly string[]): string {
  return results.map((result) => `<tool_response>\n${result}\n</tool_response>`).join("\n");
}
