import { type BlockPiece, isBlockPiece, type Piece, type Plan } from "../plan/index.js";
import { type CheckedPrompt, checkPrompt, type Included } from "./check-prompt.js";
import { BeyondCount, boundedEncoder } from "./count.js";
import { type Diagnostic, diagnosticList, hasErrors, type Report } from "./diagnostic.js";
import { type Documents, findDocument } from "./documents.js";
import {
  argumentText,
  eachModule,
  type LaidBlock,
  type Layout,
  type ModuleLayout,
  type ParameterPart,
  type Part,
  type ScaffoldLayout,
} from "./layout.js";
import { preserves, runsOf } from "./run.js";
import { hasMessages, pathWithin } from "./scope.js";
import { attributeSpans, valueSpan } from "./source.js";
import type { DocumentSlot, Prompt, PromptMessage, PromptNode, Role } from "./tree.js";

/** Options for compiling a prompt. */
export type CompileOptions = {
  readonly documents?: Documents;
  /** Token ids that follow every document and are computed with the prompt (link tokens, Yang et al. 2025). None by default. */
  readonly linkTokens?: readonly number[];
};

/** A prompt as a plan, or the errors that prevented one. */
export type CompiledPrompt = {
  readonly diagnostics: readonly Diagnostic[];
  /** Absent if the diagnostics contain an error. */
  readonly compiled?: Compiled;
};

export type SegmentOrigin =
  /** A module's path; the schema's name for text outside modules; a document's `ref`, also for its link tokens. */
  | { readonly kind: "module" | "document" | "link" | "prompt"; readonly name: string }
  /** A parameter's path, and the name of what contains it: a module's path, or the schema's name outside modules. */
  | { readonly kind: "argument"; readonly name: string; readonly in: string; readonly outside: boolean };

/** A run of a prompt's text and its origin. */
export type Segment = {
  /** See `SegmentOrigin`. */
  readonly from: SegmentOrigin;
  /** Empty for link tokens. */
  readonly text: string;
  /** Written by the chat template. */
  readonly control: boolean;
  /** Role of its message; absent outside messages. */
  readonly role?: Role;
  readonly tokens: readonly number[];
  /** Position of the first token. */
  readonly at: number;
  readonly cached: boolean;
  /** Tokens before it that its block saw, if any. */
  readonly sees?: number;
};

/** A prompt as a plan, and which parts of it are cached. */
export type Compiled = {
  readonly plan: Plan;
  /** All text of the prompt, including control text, in the order of positions. */
  readonly segments: readonly Segment[];
  /** Tokens whose KV comes from blocks. */
  readonly cachedTokens: number;
  /** Tokens computed with this prompt. */
  readonly computedTokens: number;
  /** Paths of the included modules, in the order of the prompt. */
  readonly modules: readonly string[];
  /** Paths of the scaffolds that are used. */
  readonly scaffolds: readonly string[];
  /** One past the prompt's last position. */
  readonly end: number;
};

/**
 * A prompt's plan. Its pieces follow the schema's document order, whatever the order of the prompt's includes:
 * first a module's block, where the module begins, then its content in order (arguments and, with
 * cache="false", its text, as fresh pieces; nested modules with theirs), then documents, then the prompt's own text.
 * So an argument sees its own module and what precedes it, never keys of later positions from other modules
 * (rotary models have not learned to look ahead); the prompt's own text sees everything. A scaffold's block is
 * placed where the first of its modules would be.
 */
export function compilePrompt(layout: Layout, prompt: Prompt, options: CompileOptions = {}): CompiledPrompt {
  const { report, append, diagnostics } = diagnosticList();
  const { included, values, diagnostics: checked } = checkPrompt(layout.schema, prompt);
  append(checked);

  const scaffolds = chooseScaffolds(layout, included);
  const writer = planWriter(layout, options, report);
  const documents: Writing["documents"] = [];
  try {
    writeModule(layout.root, { layout, prompt, included, values, scaffolds, written: new Set(), documents, report, writer });
    writer.moveTo(layout.length);
    for (const { node, role } of documents) writer.document(node, role);
    const roles = [...eachModule(layout.root)].flatMap(({ path, lastRole }) =>
      lastRole && (path === "" || included.has(path)) ? [lastRole] : [],
    );
    writePrompt(prompt, layout, roles.at(-1), writer);
  } catch (error) {
    if (!(error instanceof BeyondCount)) throw error;
    report(
      "too-many-tokens",
      `a text of this prompt far exceeds the model's context of ${layout.options.contextLength} tokens; counting stopped`,
      prompt.origin,
    );
    return { diagnostics };
  }

  const { pieces, segments, end } = writer.result();
  const last = pieces.at(-1);
  if (!last || isBlockPiece(last)) {
    report("empty-prompt", "the prompt has no text of its own for the model to continue; write some", prompt.origin);
  }
  const { contextLength } = layout.options;
  if (contextLength !== undefined && end > contextLength) {
    report("prompt-too-long", `the prompt reaches position ${end}, but the model's context has ${contextLength}`, prompt.origin);
  }
  if (hasErrors(diagnostics)) return { diagnostics };
  return {
    diagnostics,
    compiled: {
      plan: { pieces },
      segments,
      ...countTokens(pieces),
      modules: [...included.keys()],
      scaffolds: [...new Set(scaffolds.values())].map(({ path }) => path),
      end,
    },
  };
}

/**
 * The scaffold that replaces each module. A scaffold fits if the prompt includes all its modules; among several
 * that share a module, the largest is used: the one with the most modules, then the most tokens, then the first.
 */
function chooseScaffolds({ scaffolds }: Layout, included: Included): ReadonlyMap<string, ScaffoldLayout> {
  const chosen = new Map<string, ScaffoldLayout>();
  const fitting = scaffolds.filter(({ modules }) => modules.every((path) => included.has(path)));
  fitting.sort((a, b) => b.modules.length - a.modules.length || b.block.tokens.length - a.block.tokens.length);
  for (const scaffold of fitting) {
    if (scaffold.modules.some((path) => chosen.has(path))) continue;
    for (const path of scaffold.modules) chosen.set(path, scaffold);
  }
  return chosen;
}

type Writing = {
  readonly layout: Layout;
  readonly prompt: Prompt;
  readonly included: Included;
  readonly values: CheckedPrompt["values"];
  readonly scaffolds: ReadonlyMap<string, ScaffoldLayout>;
  readonly written: Set<ScaffoldLayout>;
  /** In document order. */
  readonly documents: Extract<Part, { kind: "document" }>[];
  readonly report: Report;
  readonly writer: PlanWriter;
};

function writeModule(module: ModuleLayout, writing: Writing): void {
  const { layout, included, scaffolds, written, writer } = writing;
  const scaffold = scaffolds.get(module.path);
  if (!scaffold) {
    if (module.block) writer.block(module.block, module.path !== "");
  } else if (!written.has(scaffold)) {
    written.add(scaffold);
    writer.block(scaffold, true);
  }
  const from = { kind: "module", name: module.path === "" ? layout.schema.name : module.path } as const;
  const sees = scaffold ? scaffold.sees : module.seen?.length;
  for (const part of module.parts) {
    switch (part.kind) {
      case "text":
        writer.part({ ...part, ...(module.cached && sees !== undefined && { sees }) }, from, module.cached);
        break;
      case "parameter":
        writer.part(
          { ...part, ...argumentOf(part, module, writing) },
          { kind: "argument", name: pathWithin(module.path, part.parameter.name), in: from.name, outside: module.path === "" },
          false,
        );
        break;
      case "module":
        if (included.has(part.module.path)) writeModule(part.module, writing);
        break;
      case "union":
        for (const member of part.members) if (included.has(member.path)) writeModule(member, writing);
        break;
      case "document":
        writing.documents.push(part);
        break;
    }
  }
}

/** What takes a parameter's place: no more tokens than it reserves. */
function argumentOf(
  { parameter, lead }: ParameterPart,
  module: ModuleLayout,
  { layout, prompt, included, values, report, writer }: Writing,
) {
  const { name, length, overflow, variable } = parameter;
  const include = included.get(module.path);
  const given = !variable && include && Object.hasOwn(include.arguments, name);
  const value = (variable ? values.get(name) : given ? include.arguments[name] : parameter.default) ?? "";
  const text = argumentText(lead, value);
  const tokens = writer.encode(text);
  if (tokens.length <= length) return { text, control: false, tokens };
  const span = variable
    ? valueSpan(prompt.origin, name, value)
    : given
      ? valueSpan(include.origin, name, value)
      : attributeSpans(parameter.origin, "default").value;
  const kind = variable ? "value" : given ? "argument" : "default";
  const what = `the ${kind} \`${name}\` of \`${module.node.name}\` is ${tokens.length} tokens long, but its parameter reserves ${length}`;
  if (overflow === "error") {
    report("argument-too-long", what, span ?? parameter.origin);
    return { text, control: false, tokens };
  }
  report("argument-truncated", `${what}, so its ${overflow === "truncate-end" ? "end" : "start"} is left out`, span ?? parameter.origin);
  const kept = overflow === "truncate-end" ? tokens.slice(0, length) : tokens.slice(-length);
  return { text: layout.options.tokenizer.decode(kept), control: false, tokens: kept };
}

/** The prompt's own text and messages; `roleBefore`: role of the last message of the included modules. */
function writePrompt(prompt: Prompt, { schema, open, options: { chat } }: Layout, roleBefore: Role | undefined, writer: PlanWriter): void {
  const preserve = preserves(prompt.space, false);
  const words = prompt.children.filter((child) => child.kind !== "include");
  const dialogue = hasMessages(schema.children) || prompt.children.some(({ kind }) => kind === "message");
  let opened = open;
  const close = () => {
    if (opened) writer.control(opened.close, opened.role);
    opened = undefined;
  };
  /** In a dialogue, text outside messages is the user's. */
  const imply = () => {
    if (opened || !dialogue) return;
    const frame = chat.frame("user", roleBefore);
    writer.control(frame.open, "user");
    roleBefore = "user";
    opened = { role: "user", close: frame.close };
  };
  for (const run of runsOf<PromptNode>(words, { preserve })) {
    if (run.kind === "text") {
      imply();
      writer.text(run.text, opened?.role);
    } else if (run.kind === "element" && run.node.kind === "document") {
      imply();
      writer.document(run.node, opened?.role);
    } else if (run.kind === "element" && run.node.kind === "message") {
      close();
      opened = writeMessage(run.node, preserve, chat.frame(run.node.role, roleBefore), writer);
      roleBefore = run.node.role;
    }
  }
  if (opened?.role === "assistant") return; // the model continues it
  close();
  writer.control(chat.generationPrompt, "assistant");
}

/** The message, if it is left open. */
function writeMessage(
  { role, open, space, children }: PromptMessage,
  preserve: boolean,
  frame: { readonly open: string; readonly close: string },
  writer: PlanWriter,
): Layout["open"] {
  writer.control(frame.open, role);
  for (const run of runsOf(children, { preserve: preserves(space, preserve) })) {
    if (run.kind === "text") writer.text(run.text, role);
    else if (run.kind === "element" && run.node.kind === "document") writer.document(run.node, role);
  }
  if (open) return { role, close: frame.close };
  writer.control(frame.close, role);
  return undefined;
}

type PlanWriter = ReturnType<typeof planWriter>;

/** How a part of a prompt is written. */
type Written = {
  readonly text: string;
  readonly control: boolean;
  readonly tokens: readonly number[];
  readonly at: number;
  readonly role?: Role | undefined;
  readonly sees?: number;
};

/** Pieces in order, and segments. Modules give their own positions; documents and text follow one another from `moveTo` on. */
function planWriter({ options }: Layout, { documents, linkTokens = [] }: CompileOptions, report: Report) {
  const { tokenizer } = options;
  const { encode } = boundedEncoder(options);
  const pieces: (BlockPiece | { readonly tokens: number[]; readonly at: number })[] = [];
  const segments: Segment[] = [];
  let cursor = 0;

  /** Fresh tokens that continue where the last ones ended join their piece. */
  const fresh = (tokens: readonly number[], at: number): void => {
    if (tokens.length === 0) return;
    const last = pieces.at(-1);
    if (last && "tokens" in last && last.at + last.tokens.length === at) {
      for (const token of tokens) last.tokens.push(token);
    } else pieces.push({ tokens: [...tokens], at });
  };
  const part = ({ text, control, tokens, at, role, sees }: Written, from: Segment["from"], cached: boolean): void => {
    if (!cached) fresh(tokens, at);
    if (tokens.length > 0)
      segments.push({ from, text, control, tokens, at, cached, ...(sees !== undefined && { sees }), ...(role && { role }) });
  };
  const follow = (written: Omit<Written, "at">, from: Segment["from"], cached = false): void => {
    part({ ...written, at: cursor }, from, cached);
    cursor += written.tokens.length;
  };
  const own = { kind: "prompt", name: "" } as const;

  return {
    part,
    encode,
    /** @param loose whether in a single prompt it would have seen what precedes it */
    block({ block, at, omit }: LaidBlock, loose: boolean): void {
      pieces.push({ block, at, ...(omit && { omit }), ...(loose && { loose: "in place" as const }) });
    },
    moveTo(position: number): void {
      cursor = position;
    },
    text: (text: string, role?: Role): void => follow({ text, control: false, tokens: encode(text), role }, own),
    control: (text: string, role?: Role): void => follow({ text, control: true, tokens: encode(text, { control: true }), role }, own),
    document(slot: DocumentSlot, role?: Role): void {
      const block = findDocument(documents, slot, report);
      if (!block) return;
      pieces.push({ block, at: cursor, loose: true });
      const end = cursor + (block.offsets?.at(-1) ?? block.tokens.length - 1) + 1;
      follow(
        { text: tokenizer.decode(block.tokens), control: false, tokens: block.tokens, role },
        { kind: "document", name: slot.ref },
        true,
      );
      cursor = end;
      follow({ text: "", control: true, tokens: linkTokens, role }, { kind: "link", name: slot.ref });
    },
    result(): { readonly pieces: readonly Piece[]; readonly segments: readonly Segment[]; readonly end: number } {
      return { pieces, segments, end: cursor };
    },
  };
}

function keptTokens({ block, omit = [] }: BlockPiece): number {
  return omit.reduce((left, [start, end]) => left - (end - start), block.tokens.length);
}

function countTokens(pieces: readonly Piece[]): { readonly cachedTokens: number; readonly computedTokens: number } {
  let cachedTokens = 0;
  let computedTokens = 0;
  for (const piece of pieces) {
    if (isBlockPiece(piece)) cachedTokens += keptTokens(piece);
    else computedTokens += piece.tokens.length;
  }
  return { cachedTokens, computedTokens };
}
