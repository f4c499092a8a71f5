import { type CallForm, callStart, SPELLINGS, type Tool } from "../../plan/index.js";

/** What an answer with tools must be: the model's choice, at least one call, or a call of one function. */
export type ToolChoice = "auto" | "required" | { readonly name: string };

/** The tools, and what an answer may do with them. */
export type CallGrammarOptions = {
  readonly form: CallForm;
  readonly tools: readonly Tool[];
  readonly choice: ToolChoice;
  /** Whether an answer may have several calls. */
  readonly parallel: boolean;
  /** The JSON Schema of an answer without calls, if the model may choose; any text by default. */
  readonly otherwise?: unknown;
};

/**
 * The grammar of an answer with tools, in llguidance's variant of Lark's syntax. None if the model may answer freely and
 * only an object distinguishes a call from other text.
 */
export function callGrammar({ form, tools, choice, parallel, otherwise }: CallGrammarOptions): string | undefined {
  const { before, begin, end, between, after } = SPELLINGS[form];
  if (choice === "auto" && begin === "" && otherwise === undefined) return undefined;
  const named = typeof choice === "object" ? tools.filter(({ name }) => name === choice.name) : tools;
  const more = parallel && between !== "" && typeof choice !== "object" ? `(${literal(between + begin)} call)*` : "";
  const calls = `${literal(before + begin)} call ${more} ${literal(after)}`;
  return [
    ...startOf({ calls, more, begin, otherwise: choice === "auto" ? (otherwise ?? "any text") : undefined }),
    `call: ${named.map((_, i) => `call_${i}`).join(" | ")}`,
    ...named.flatMap(({ name, parameters = { type: "object" } }, i) => [
      `call_${i}: ${literal(callStart(form, name))} arguments_${i} ${literal(`}${end}`)}`,
      `arguments_${i}: %json ${JSON.stringify(parameters)}`,
    ]),
  ].join("\n");
}

type Start = { readonly calls: string; readonly more: string; readonly begin: string; readonly otherwise: unknown };

/** Only calls, or calls or JSON of a schema, or any text up to the first call's tag. */
function startOf({ calls, more, begin, otherwise }: Start): string[] {
  if (otherwise === undefined) return [`start: ${calls}`];
  if (otherwise !== "any text") return [`start: otherwise | ${calls}`, `otherwise: %json ${JSON.stringify(otherwise)}`];
  const tag = begin.trim();
  return [
    `start: TEXT | text_to_tag ${literal(begin.slice(tag.length))} call ${more}`,
    `TEXT: /(?s:.*)/ & ~/(?s:.*)${tag}(?s:.*)/`,
    `text_to_tag[lazy]: /(?s:.*)${tag}/`,
  ];
}

function literal(text: string): string {
  return text === "" ? "" : JSON.stringify(text);
}
