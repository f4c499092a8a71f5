import { parse as parseTemplate, tokenize } from "@huggingface/jinja";
import { KvspliceError } from "../plan/index.js";
import { assistant, module, parameter, schema, system, user, valueOf, variable } from "./builder.js";
import { formatPml } from "./format.js";
import type { Imported } from "./import.js";
import type { Parameter, Role } from "./tree.js";

/** Tokens reserved for a template's variable. */
const VARIABLE_LENGTH = 64;

/**
 * A Jinja template of text and variables as a schema: one module whose parameters are the variables. A variable used in
 * several places becomes a variable of the schema. If the template begins with a line such as `system:` (as Prompty's
 * files do) or `<|im_start|>system`, these lines begin messages; otherwise it is all in a user message, which stays open for
 * the prompt's own text.
 *
 *     const { markup } = importJinja("Translate into {{ language }}:", "translate");
 *
 * @throws KvspliceError `bad_markup` if anything is not static: statements, filters, computed values
 */
export function importJinja(template: string, name: string): Imported {
  const parts = partsOf(template);
  const names = parts.flatMap((part) => (typeof part === "string" ? [] : [part.variable]));
  const variables = [...new Set(names)];
  const isShared = (name: string) => names.indexOf(name) !== names.lastIndexOf(name);
  const placed = (part: Part): string | Parameter =>
    typeof part === "string" ? part : (isShared(part.variable) ? valueOf : parameter)(part.variable, { length: VARIABLE_LENGTH });
  const messages = messagesOf(parts);
  const content = messages
    ? [module("template", ...messages.map(({ role, parts }) => MESSAGES[role](...parts.map(placed))))]
    : [user({ open: true }, module("template", ...parts.map(placed)))];
  return {
    markup: formatPml(schema(name, ...variables.filter(isShared).map((each) => variable(each)), ...content)),
    notes: variables.map((each) =>
      isShared(each)
        ? `the places of the variable \`${each}\` reserve ${VARIABLE_LENGTH} tokens; set the length it needs`
        : `the parameter \`${each}\` reserves ${VARIABLE_LENGTH} tokens; set the length it needs`,
    ),
  };
}

const MESSAGES = { system, user, assistant } as const;

/** A template's text, and the places of its variables. */
type Part = string | { readonly variable: string };

function partsOf(template: string): Part[] {
  let body: readonly unknown[];
  try {
    body = parseTemplate(tokenize(template)).body;
  } catch (cause) {
    throw new KvspliceError("bad_markup", `This is not a Jinja template: ${(cause as Error).message}`, { cause });
  }
  return body.flatMap((node): Part[] => {
    const { type, value } = node as { readonly type: string; readonly value?: unknown };
    if (type === "Comment") return [];
    if (type === "StringLiteral") return [String(value)];
    if (type === "Identifier") return [{ variable: String(value) }];
    throw new KvspliceError(
      "bad_markup",
      `The template has a ${type}, but only text and variables ({{ name }}) are static. Turn its branches into modules, and include them by name in each prompt.`,
    );
  });
}

type TemplateMessage = { readonly role: Role; readonly parts: readonly Part[] };

const ROLE_LINE = /^[ \t]*(?:(?:#[ \t]*)?(system|user|assistant)[ \t]*:|<\|im_start\|>(system|user|assistant))[ \t]*\n?$/i;
const MESSAGE_END = /<\|im_end\|>\s*$/;

/** The messages of a template that begins with one; without the answer's beginning at its end, which every prompt has. */
function messagesOf(parts: readonly Part[]): readonly TemplateMessage[] | undefined {
  const messages: { readonly role: Role; readonly parts: Part[] }[] = [];
  let begins = true; // whether the next part begins a line
  for (const part of parts.flatMap((each): Part[] => (typeof each === "string" ? each.split(/(?<=\n)/) : [each]))) {
    const [, named, tagged] = (begins && typeof part === "string" && ROLE_LINE.exec(part)) || [];
    const role = named ?? tagged;
    begins = typeof part === "string" && part.endsWith("\n");
    if (role !== undefined) messages.push({ role: role.toLowerCase() as Role, parts: [] });
    else if (messages.length > 0) messages.at(-1)!.parts.push(part);
    else if (typeof part !== "string" || part.trim() !== "") return undefined;
  }
  const trimmed = messages.map(({ role, parts }) => ({ role, parts: trimEnds(parts) }));
  const last = trimmed.at(-1);
  return last?.role === "assistant" && last.parts.length === 0 ? trimmed.slice(0, -1) : last && trimmed;
}

/** A message's lines as text, without the whitespace at its ends and without ChatML's end of a message. */
function trimEnds(parts: readonly Part[]): Part[] {
  const joined: Part[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (typeof part === "string" && typeof last === "string") joined[joined.length - 1] = last + part;
    else joined.push(part);
  }
  return joined
    .map((part, i) => {
      if (typeof part !== "string") return part;
      const text = i === joined.length - 1 ? part.replace(MESSAGE_END, "").trimEnd() : part;
      return i === 0 ? text.trimStart() : text;
    })
    .filter((part) => part !== "");
}
