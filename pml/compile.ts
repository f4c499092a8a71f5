import { type BlockPiece, isBlockPiece, type Piece, type Plan, type Role } from "../plan/index.js";
import { checkPrompt, type Included } from "./check-prompt.js";
import { type Diagnostic, diagnosticList, hasErrors, type Report } from "./diagnostic.js";
import { type Documents, findDocument } from "./documents.js";
import {
  argumentText,
  eachModule,
  type LaidBlock,
  type Layout,
  type ModuleLayout,
  type ParameterPart,
  type ScaffoldLayout,
} from "./layout.js";
import { runsOf } from "./run.js";
import { attributeSpans } from "./source.js";
import type { DocumentSlot, Include, Prompt, PromptMessage, PromptNode } from "./tree.js";
import { preserves } from "./whitespace.js";

export type CompileOptions = {
  readonly documents?: Documents;
  /** Token ids that follow every document and are computed with the prompt (link tokens, Yang et al. 2025). */
  readonly linkTokens?: readonly number[];
};

export type CompiledPrompt = {
  readonly diagnostics: readonly Diagnostic[];
  /** Left out when the diagnostics have an error. */
  readonly compiled?: Compiled;
};

export type Compiled = {
  readonly plan: Plan;
  /** Tokens whose KV comes from blocks, placeholders left out. */
  readonly cachedTokens: number;
  /** Tokens that are computed with this prompt. */
  readonly computedTokens: number;
  /** Paths of the included modules, in the order of the prompt. */
  readonly modules: readonly string[];
  /** Paths of the scaffolds that are used. */
  readonly scaffolds: readonly string[];
  /** One past the prompt's last position. */
  readonly end: number;
};

/**
 * A prompt's plan. Its pieces stand in the schema's document order, whatever the order of the prompt's includes:
 * a module's block stands where the module begins, then its content follows in order (arguments, and where
 * cache="false" its text, as fresh pieces; nested modules with theirs), then documents, then the prompt's own text.
 * So an argument sees its own module and what stands before it, never keys of later positions from other modules
 * (rotary models have not learned to look ahead); the prompt's own text sees everything. A scaffold's block stands
 * where the first of its modules would.
 */
export function compilePrompt(layout: Layout, prompt: Prompt, options: CompileOptions = {}): CompiledPrompt {
  const { report, append, diagnostics } = diagnosticList();
  const { included, diagnostics: checked } = checkPrompt(layout.schema, prompt);
  append(checked);

  const scaffolds = chooseScaffolds(layout, included);
  const writer = planWriter(layout, options, report);
  const documents: DocumentSlot[] = [];
  writeModule(layout.root, { layout, included, scaffolds, written: new Set(), documents, report, writer });
  writer.moveTo(layout.length);
  for (const document of documents) writer.document(document);
  const roles = [...eachModule(layout.root)].flatMap(({ path, lastRole }) => (lastRole && (path === "" || included.has(path)) ? [lastRole] : []));
  writePrompt(prompt, layout, roles.at(-1), writer);

  const { pieces, end } = writer.result();
  const last = pieces.at(-1);
  if (!last || isBlockPiece(last)) {
    report("empty-prompt", "there is nothing for the model to go on from; write the prompt's own text", prompt.origin);
  }
  const { contextLength } = layout.options;
  if (contextLength !== undefined && end > contextLength) {
    report("prompt-too-long", `the prompt reaches position ${end}; the model's context has ${contextLength}`, prompt.origin);
  }
  if (hasErrors(diagnostics)) return { diagnostics };
  return {
    diagnostics,
    compiled: {
      plan: { pieces },
      ...countTokens(pieces),
      modules: [...included.keys()],
      scaffolds: [...new Set(scaffolds.values())].map(({ path }) => path),
      end,
    },
  };
}

/**
 * The scaffold that stands for each module. A scaffold fits when the prompt includes all of its modules; of several
 * that share a module the largest is used: the one of most modules, then of most tokens, then the first.
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
  readonly included: Included;
  readonly scaffolds: ReadonlyMap<string, ScaffoldLayout>;
  readonly written: Set<ScaffoldLayout>;
  /** Those met, in document order. */
  readonly documents: DocumentSlot[];
  readonly report: Report;
  readonly writer: PlanWriter;
};

function writeModule(module: ModuleLayout, writing: Writing): void {
  const { included, scaffolds, written, writer } = writing;
  const scaffold = scaffolds.get(module.path);
  if (!scaffold) writer.block(module.block);
  else if (!written.has(scaffold)) {
    written.add(scaffold);
    writer.block(scaffold);
  }
  for (const part of module.parts) {
    switch (part.kind) {
      case "tokens":
        if (!module.cached) writer.fresh(part.tokens, part.at);
        break;
      case "parameter":
        writer.fresh(argumentTokens(part, included.get(module.path), writing), part.at);
        break;
      case "module":
        if (included.has(part.module.path)) writeModule(part.module, writing);
        break;
      case "union":
        for (const member of part.members) if (included.has(member.path)) writeModule(member, writing);
        break;
      case "document":
        writing.documents.push(part.node);
        break;
    }
  }
}

function argumentTokens(
  { parameter, lead, default: otherwise = [] }: ParameterPart,
  include: Include | undefined,
  { layout, report }: Writing,
): readonly number[] {
  const { name, length } = parameter;
  if (!include || !Object.hasOwn(include.arguments, name)) return otherwise;
  const tokens = layout.options.tokenizer.encode(argumentText(lead, include.arguments[name] ?? ""));
  if (tokens.length > length) {
    const message = `the argument \`${name}\` of \`${include.name}\` is ${tokens.length} tokens long; its parameter reserves ${length}`;
    report("argument-too-long", message, attributeSpans(include.origin, name).value);
  }
  return tokens;
}

/** The prompt's own text and messages; `roleBefore`: of the last message of the included modules. */
function writePrompt(prompt: Prompt, { open, options: { chat } }: Layout, roleBefore: Role | undefined, writer: PlanWriter): void {
  const preserve = preserves(prompt.space, false);
  const words = prompt.children.filter((child) => child.kind !== "include");
  let opened = open;
  for (const run of runsOf<PromptNode>(words, { preserve, controlFollows: true })) {
    if (run.kind === "text") writer.text(run.text);
    else if (run.kind === "element" && run.node.kind === "document") writer.document(run.node);
    else if (run.kind === "element" && run.node.kind === "message") {
      if (opened) writer.control(opened.close);
      opened = writeMessage(run.node, preserve, chat.frame(run.node.role, roleBefore), writer);
      roleBefore = run.node.role;
    }
  }
  if (opened?.role === "assistant") return; // the model goes on in it
  if (opened) writer.control(opened.close);
  writer.control(chat.generationPrompt);
}

/** The message when it is left open. */
function writeMessage(
  { role, open, space, children }: PromptMessage,
  preserve: boolean,
  frame: { readonly open: string; readonly close: string },
  writer: PlanWriter,
): Layout["open"] {
  writer.control(frame.open);
  for (const run of runsOf(children, { preserve: preserves(space, preserve), controlFollows: true })) {
    if (run.kind === "text") writer.text(run.text);
    else if (run.kind === "element" && run.node.kind === "document") writer.document(run.node);
  }
  if (open) return { role, close: frame.close };
  writer.control(frame.close);
  return undefined;
}

type PlanWriter = ReturnType<typeof planWriter>;

/** Pieces in their order. Modules say where they stand; documents and text follow one another from `moveTo` on. */
function planWriter({ options: { tokenizer } }: Layout, { documents, linkTokens = [] }: CompileOptions, report: Report) {
  const pieces: (BlockPiece | { readonly tokens: number[]; readonly at: number })[] = [];
  let cursor = 0;

  /** Fresh tokens that go on where the last ones ended are one piece with them. */
  const fresh = (tokens: readonly number[], at: number): void => {
    if (tokens.length === 0) return;
    const last = pieces.at(-1);
    if (last && "tokens" in last && last.at + last.tokens.length === at) {
      for (const token of tokens) last.tokens.push(token);
    } else pieces.push({ tokens: [...tokens], at });
  };
  const follow = (tokens: readonly number[]): void => {
    fresh(tokens, cursor);
    cursor += tokens.length;
  };

  return {
    fresh,
    block(laid: LaidBlock | undefined): void {
      if (laid) pieces.push({ block: laid.block, at: laid.at, ...(laid.omit && { omit: laid.omit }) });
    },
    moveTo(position: number): void {
      cursor = position;
    },
    text: (text: string): void => follow(tokenizer.encode(text)),
    control: (text: string): void => follow(tokenizer.encode(text, { control: true })),
    document(slot: DocumentSlot): void {
      const block = findDocument(documents, slot, report);
      if (!block) return;
      pieces.push({ block, at: cursor });
      cursor += (block.offsets?.at(-1) ?? block.tokens.length - 1) + 1;
      follow(linkTokens);
    },
    result(): { readonly pieces: readonly Piece[]; readonly end: number } {
      return { pieces, end: cursor };
    },
  };
}

function countTokens(pieces: readonly Piece[]): { readonly cachedTokens: number; readonly computedTokens: number } {
  let cachedTokens = 0;
  let computedTokens = 0;
  for (const piece of pieces) {
    if (isBlockPiece(piece)) {
      const omitted = (piece.omit ?? []).reduce((sum, [start, end]) => sum + end - start, 0);
      cachedTokens += piece.block.tokens.length - omitted;
    } else computedTokens += piece.tokens.length;
  }
  return { cachedTokens, computedTokens };
}
