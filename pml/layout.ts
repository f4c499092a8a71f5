import type { BlockSource, ChatTemplate, Range, Tokenizer } from "../plan/index.js";
import { checkSchema } from "./check.js";
import { type Diagnostic, diagnosticList, hasErrors, type Report } from "./diagnostic.js";
import { type Run, runsOf } from "./run.js";
import { pathWithin } from "./scope.js";
import { attributeSpans } from "./source.js";
import type { DocumentSlot, Module, Parameter, Role, Scaffold, Schema, SchemaMessage, SchemaNode, Union } from "./tree.js";
import { preserves } from "./whitespace.js";

/**
 * A schema's positions, in the way of Prompt Cache (Gim et al., MLSys 2024): every module has its own, whichever of
 * them a prompt includes. All lengths count tokens; all positions are absolute, from 0 at the schema's start.
 */
export type Layout = {
  readonly schema: Schema;
  readonly options: LayoutOptions;
  /** The anonymous module: all text outside of modules. */
  readonly root: ModuleLayout;
  /** Positions that the schema takes; the prompt's own text starts here. */
  readonly length: number;
  readonly scaffolds: readonly ScaffoldLayout[];
  /** The message that the schema leaves open, with the control text that closes it. */
  readonly open?: { readonly role: Role; readonly close: string };
};

export type LayoutOptions = {
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
  /** The model's context in tokens: what is longer is told of. */
  readonly contextLength?: number;
  /** Token that fills the places of parameters; the first of `" "` when left out. */
  readonly placeholder?: number;
};

export type ModuleLayout = {
  readonly node: Schema | Module;
  /** Names from the outermost module to this one, with `/` between; empty for the anonymous module. */
  readonly path: string;
  readonly start: number;
  /** Positions that it takes, nested modules and unions with it. */
  readonly length: number;
  readonly cached: boolean;
  /** Its own text with the placeholders of its parameters, whether cached or not. */
  readonly own: OwnText;
  /** Its own text as it is encoded: by itself, in one piece, with gaps where nested modules stand. */
  readonly block?: LaidBlock;
  /** Its content in document order. */
  readonly parts: readonly Part[];
  /** Of the last message in its own content. */
  readonly lastRole: Role | undefined;
};

export type OwnText = {
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  /** The parameters' placeholders, as ranges of `tokens`. */
  readonly omit: readonly Range[];
};

/** A block, and the piece of a plan that lays it. */
export type LaidBlock = { readonly block: BlockSource; readonly at: number; readonly omit?: readonly Range[] };

export type Part =
  | { readonly kind: "tokens"; readonly tokens: readonly number[]; readonly at: number }
  | ParameterPart
  | { readonly kind: "module"; readonly module: ModuleLayout }
  | { readonly kind: "union"; readonly start: number; readonly length: number; readonly members: readonly ModuleLayout[] }
  | { readonly kind: "document"; readonly node: DocumentSlot };

export type ParameterPart = {
  readonly kind: "parameter";
  readonly parameter: Parameter;
  readonly at: number;
  /** Space that goes before the argument. */
  readonly lead: "" | " ";
  readonly default?: readonly number[];
};

export type ScaffoldLayout = LaidBlock & { readonly path: string; readonly modules: readonly string[] };

export type LaidSchema = { readonly layout?: Layout; readonly diagnostics: readonly Diagnostic[] };

/**
 * Lays a schema out. The schema is resolved; where it breaks a rule of the language there is no layout, and the
 * diagnostics are checkSchema's. Otherwise they are those that need token counts alone.
 */
export function layoutSchema(schema: Schema, options: LayoutOptions): LaidSchema {
  const checked = checkSchema(schema);
  if (hasErrors(checked)) return { diagnostics: checked };

  const { diagnostics, report } = diagnosticList();
  const { tokenizer, chat, contextLength, placeholder } = options;
  const context: Context = {
    tokenizer,
    chat,
    placeholder: placeholder ?? tokenizer.encode(" ")[0] ?? 0,
    report,
    modules: new Map(),
    scaffolds: [],
    roleBefore: undefined,
  };
  const root = layModule(schema, "", 0, false, context);
  if (contextLength !== undefined && root.length > contextLength) {
    const message = `the schema is ${root.length} tokens long; the model's context has ${contextLength}`;
    report("schema-too-long", message, schema.origin);
  }
  if (hasErrors(diagnostics)) return { diagnostics };
  const scaffolds = context.scaffolds.flatMap(({ node, outer }) => layScaffold(node, outer, context.modules));
  const open = context.open && { open: context.open };
  return { layout: { schema, options, root, length: root.length, scaffolds, ...open }, diagnostics };
}

/** Every block of a schema, so that all may be computed ahead. */
export function blocksOf({ root, scaffolds }: Layout): readonly BlockSource[] {
  const blocks = Array.from(eachModule(root), ({ block }) => block?.block).filter((block) => block !== undefined);
  return [...blocks, ...scaffolds.map(({ block }) => block)];
}

export function* eachModule(module: ModuleLayout): Generator<ModuleLayout> {
  yield module;
  for (const part of module.parts) {
    if (part.kind === "module") yield* eachModule(part.module);
    if (part.kind === "union") for (const member of part.members) yield* eachModule(member);
  }
}

type Context = {
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
  readonly placeholder: number;
  readonly report: Report;
  readonly modules: Map<string, ModuleLayout>;
  readonly scaffolds: { readonly node: Scaffold; readonly outer: string }[];
  /** Of the message that stands before, in document order. */
  roleBefore: Role | undefined;
  open?: NonNullable<Layout["open"]>;
};

/** A module while it is laid. */
type Laying = {
  readonly path: string;
  readonly tokens: number[];
  readonly positions: number[];
  readonly omit: Range[];
  readonly parts: Part[];
  lastRole: Role | undefined;
  cursor: number;
};

function layModule(node: Schema | Module, path: string, start: number, preserve: boolean, context: Context): ModuleLayout {
  const laying: Laying = { path, tokens: [], positions: [], omit: [], parts: [], lastRole: undefined, cursor: start };
  layContent(node.children, laying, { preserve: preserves(node.space, preserve), controlFollows: false }, context);
  const { tokens, positions, omit, parts, lastRole, cursor } = laying;
  const cached = node.kind === "schema" || node.cache;
  const own = { tokens, positions, omit };
  const block = cached ? layBlock(own) : undefined;
  const module = { node, path, start, length: cursor - start, cached, own, ...(block && { block }), parts, lastRole };
  context.modules.set(path, module);
  return module;
}

function layContent(
  children: readonly SchemaNode[],
  laying: Laying,
  options: { readonly preserve: boolean; readonly controlFollows: boolean },
  context: Context,
): void {
  for (const run of runsOf(children, options)) {
    if (run.kind === "text") addTokens(context.tokenizer.encode(run.text), laying);
    else if (run.kind === "parameter") layParameter(run, laying, context);
    else layElement(run.node, laying, options.preserve, context);
  }
}

function layElement(node: SchemaNode, laying: Laying, preserve: boolean, context: Context): void {
  switch (node.kind) {
    case "module": {
      const module = layModule(node, pathWithin(laying.path, node.name), laying.cursor, preserve, context);
      laying.parts.push({ kind: "module", module });
      laying.cursor += module.length;
      break;
    }
    case "union":
      layUnion(node, laying, preserve, context);
      break;
    case "message":
      layMessage(node, laying, preserve, context);
      break;
    case "scaffold":
      context.scaffolds.push({ node, outer: laying.path });
      break;
    case "document":
      laying.parts.push({ kind: "document", node });
      break;
    default:
      break;
  }
}

/** Members start together; the union takes as many positions as its longest. */
function layUnion(union: Union, laying: Laying, preserve: boolean, context: Context): void {
  const start = laying.cursor;
  const before = context.roleBefore;
  let after = before;
  const members: ModuleLayout[] = [];
  for (const child of union.children) {
    if (child.kind !== "module") continue;
    context.roleBefore = before;
    members.push(layModule(child, pathWithin(laying.path, child.name), start, preserve, context));
    after = context.roleBefore ?? after;
  }
  context.roleBefore = after;
  const length = members.reduce((longest, member) => Math.max(longest, member.length), 0);
  laying.parts.push({ kind: "union", start, length, members });
  laying.cursor += length;
}

function layMessage(message: SchemaMessage, laying: Laying, preserve: boolean, context: Context): void {
  const { role, open, space, children } = message;
  const frame = context.chat.frame(role, context.roleBefore);
  context.roleBefore = role;
  laying.lastRole = role;
  const addControl = (text: string) => addTokens(context.tokenizer.encode(text, { control: true }), laying);
  addControl(frame.open);
  layContent(children, laying, { preserve: preserves(space, preserve), controlFollows: !open }, context);
  if (open) context.open = { role, close: frame.close };
  else addControl(frame.close);
}

function layParameter({ parameter, lead }: Extract<Run<SchemaNode>, { kind: "parameter" }>, laying: Laying, context: Context): void {
  const { name, length, default: value, origin } = parameter;
  const tokens = value === undefined ? undefined : context.tokenizer.encode(argumentText(lead, value));
  if (tokens && tokens.length > length) {
    const message = `the default of \`${name}\` is ${tokens.length} tokens long; its parameter reserves ${length}`;
    context.report("default-too-long", message, attributeSpans(origin, "default").value);
  }
  laying.parts.push({ kind: "parameter", parameter, at: laying.cursor, lead, ...(tokens && { default: tokens }) });
  const first = laying.tokens.length;
  for (let i = 0; i < length; i++) addToken(context.placeholder, laying);
  laying.omit.push([first, first + length]);
}

/** An empty argument is no text at all, not even the space before it. */
export function argumentText(lead: string, value: string): string {
  return value === "" ? "" : lead + value;
}

function addTokens(tokens: readonly number[], laying: Laying): void {
  if (tokens.length === 0) return;
  laying.parts.push({ kind: "tokens", tokens, at: laying.cursor });
  for (const token of tokens) addToken(token, laying);
}

function addToken(token: number, laying: Laying): void {
  laying.tokens.push(token);
  laying.positions.push(laying.cursor++);
}

/** None when nothing of it would be in the KV. */
function layBlock({ tokens, positions, omit }: OwnText): LaidBlock | undefined {
  const omitted = omit.reduce((sum, [start, end]) => sum + end - start, 0);
  const at = positions[0];
  if (at === undefined || omitted === tokens.length) return undefined;
  const gapless = (positions.at(-1) ?? at) - at === tokens.length - 1;
  const block = gapless ? { tokens } : { tokens, offsets: positions.map((position) => position - at) };
  return { block, at, ...(omit.length > 0 && { omit }) };
}

/** The modules' own texts as one block, in the order of their positions. */
function layScaffold({ name, modules }: Scaffold, outer: string, laid: ReadonlyMap<string, ModuleLayout>): ScaffoldLayout[] {
  const paths = modules.map((path) => pathWithin(outer, path));
  const all = paths.flatMap((path) => {
    const own = laid.get(path)?.own;
    if (!own) return [];
    const omitted = new Set(own.omit.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i)));
    return own.tokens.map((token, i) => ({ token, position: own.positions[i] ?? 0, omitted: omitted.has(i) }));
  });
  all.sort((a, b) => a.position - b.position);
  const omit: [number, number][] = [];
  all.forEach(({ omitted }, i) => {
    const last = omit.at(-1);
    if (!omitted) return;
    if (last?.[1] === i) last[1]++;
    else omit.push([i, i + 1]);
  });
  const block = layBlock({ tokens: all.map(({ token }) => token), positions: all.map(({ position }) => position), omit });
  return block ? [{ ...block, path: pathWithin(outer, name), modules: paths }] : [];
}
