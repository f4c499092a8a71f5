import type { BlockSource, ChatTemplate, Tokenizer } from "../plan/index.js";
import { checkSchema } from "./check.js";
import { type Diagnostic, diagnosticList, hasErrors, type Report } from "./diagnostic.js";
import { BeyondCount, boundedEncoder, type Encode } from "./count.js";
import { type Lead, preserves, type Run, runsOf } from "./run.js";
import { pathWithin } from "./scope.js";
import { attributeSpans } from "./source.js";
import type { DocumentSlot, Module, Parameter, Role, Scaffold, Schema, SchemaMessage, SchemaNode, Union } from "./tree.js";

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
  /** The model's context in tokens: what is longer is told of, and far beyond it counting stops. */
  readonly contextLength?: number;
};

export type ModuleLayout = {
  readonly node: Schema | Module;
  /** Names from the outermost module to this one, with `/` between; empty for the anonymous module. */
  readonly path: string;
  readonly start: number;
  /** Positions that it takes, nested modules and unions with it. */
  readonly length: number;
  readonly cached: boolean;
  /** Its own text, whether cached or not. */
  readonly own: OwnText;
  /** Its own text as it is encoded: by itself, in one piece, with gaps where nested modules and parameters stand. */
  readonly block?: LaidBlock;
  /** Its content in document order. */
  readonly parts: readonly Part[];
  /** Of the last message in its own content. */
  readonly lastRole: Role | undefined;
};

export type OwnText = { readonly tokens: readonly number[]; readonly positions: readonly number[] };

/** A block, and the piece of a plan that lays it. */
export type LaidBlock = { readonly block: BlockSource; readonly at: number };

export type Part =
  | TextPart
  | ParameterPart
  | { readonly kind: "module"; readonly module: ModuleLayout }
  | { readonly kind: "union"; readonly start: number; readonly length: number; readonly members: readonly ModuleLayout[] }
  | { readonly kind: "document"; readonly node: DocumentSlot; readonly role?: Role };

export type TextPart = {
  readonly kind: "text";
  readonly text: string;
  /** Written by the chat template. */
  readonly control: boolean;
  readonly tokens: readonly number[];
  readonly at: number;
  /** Of the message that it stands in. */
  readonly role?: Role;
};

export type ParameterPart = {
  readonly kind: "parameter";
  readonly parameter: Parameter;
  readonly at: number;
  readonly lead: Lead;
  readonly role?: Role;
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
  const { chat, contextLength } = options;
  const { encode, limit } = boundedEncoder(options);
  const context: Context = { encode, chat, limit, report, modules: new Map(), scaffolds: [], roleBefore: undefined };
  let root: ModuleLayout;
  try {
    root = layModule(schema, { path: "", start: 0, preserve: false, lead: "" }, context);
  } catch (error) {
    if (!(error instanceof BeyondCount)) throw error;
    const message = `the schema is more than ${limit} tokens long, far beyond the model's context of ${contextLength}; counting stopped there`;
    report("too-many-tokens", message, schema.origin);
    return { diagnostics };
  }
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
  readonly encode: Encode;
  readonly chat: ChatTemplate;
  /** Positions at which counting stops. */
  readonly limit: number;
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
  readonly parts: Part[];
  lastRole: Role | undefined;
  cursor: number;
};

type Place = {
  readonly path: string;
  readonly start: number;
  readonly preserve: boolean;
  readonly lead: Lead;
  readonly role?: Role | undefined;
};

function layModule(node: Schema | Module, { path, start, preserve, lead, role }: Place, context: Context): ModuleLayout {
  const laying: Laying = { path, tokens: [], positions: [], parts: [], lastRole: undefined, cursor: start };
  layContent(node.children, laying, { preserve: preserves(node.space, preserve), lead, role }, context);
  const { tokens, positions, parts, lastRole, cursor } = laying;
  const cached = node.kind === "schema" || node.cache;
  const own = { tokens, positions };
  const block = cached ? layBlock(own) : undefined;
  const module = { node, path, start, length: cursor - start, cached, own, ...(block && { block }), parts, lastRole };
  context.modules.set(path, module);
  return module;
}

type ContentOptions = Pick<Place, "preserve" | "lead" | "role">;

function layContent(children: readonly SchemaNode[], laying: Laying, options: ContentOptions, context: Context): void {
  const { role } = options;
  for (const run of runsOf(children, options)) {
    if (run.kind === "text") addText(run.text, { control: false, role }, laying, context);
    else if (run.kind === "parameter") layParameter(run, role, laying, context);
    else layElement(run.node, laying, { ...options, lead: run.lead }, context);
  }
}

function layElement(node: SchemaNode, laying: Laying, options: ContentOptions, context: Context): void {
  switch (node.kind) {
    case "module": {
      const module = layModule(node, { ...options, path: pathWithin(laying.path, node.name), start: laying.cursor }, context);
      laying.parts.push({ kind: "module", module });
      laying.cursor += module.length;
      break;
    }
    case "union":
      layUnion(node, laying, options, context);
      break;
    case "message":
      layMessage(node, laying, options.preserve, context);
      break;
    case "scaffold":
      context.scaffolds.push({ node, outer: laying.path });
      break;
    case "document":
      laying.parts.push({ kind: "document", node, ...(options.role && { role: options.role }) });
      break;
    default:
      break;
  }
}

/** Members start together; the union takes as many positions as its longest. */
function layUnion(union: Union, laying: Laying, options: ContentOptions, context: Context): void {
  const start = laying.cursor;
  const before = context.roleBefore;
  let after = before;
  const members: ModuleLayout[] = [];
  for (const child of union.children) {
    if (child.kind !== "module") continue;
    context.roleBefore = before;
    members.push(layModule(child, { ...options, path: pathWithin(laying.path, child.name), start }, context));
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
  addText(frame.open, { control: true, role }, laying, context);
  layContent(children, laying, { preserve: preserves(space, preserve), lead: "", role }, context);
  if (open) context.open = { role, close: frame.close };
  else addText(frame.close, { control: true, role }, laying, context);
}

type ParameterRun = Extract<Run<SchemaNode>, { kind: "parameter" }>;

/** Reserves the parameter's positions; nothing is encoded there. */
function layParameter({ parameter, lead }: ParameterRun, role: Role | undefined, laying: Laying, context: Context): void {
  const { name, length, default: value, overflow, origin } = parameter;
  if (value !== undefined && overflow === "error") {
    const tokens = context.encode(argumentText(lead, value)).length;
    if (tokens > length) {
      const message = `the default of \`${name}\` is ${tokens} tokens long; its parameter reserves ${length}`;
      context.report("default-too-long", message, attributeSpans(origin, "default").value);
    }
  }
  laying.parts.push({ kind: "parameter", parameter, at: laying.cursor, lead, ...(role && { role }) });
  laying.cursor += length;
}

/** An empty argument is no text at all, not even the space before it. */
export function argumentText(lead: Lead, value: string): string {
  return value === "" ? "" : lead + value;
}

/** @throws BeyondCount */
function addText(
  text: string,
  { control, role }: { readonly control: boolean; readonly role: Role | undefined },
  laying: Laying,
  context: Context,
): void {
  const tokens = context.encode(text, { control });
  if (tokens.length === 0) return;
  laying.parts.push({ kind: "text", text, control, tokens, at: laying.cursor, ...(role && { role }) });
  for (const token of tokens) {
    laying.tokens.push(token);
    laying.positions.push(laying.cursor++);
  }
  if (laying.cursor > context.limit) throw new BeyondCount();
}

/** None when there is nothing to encode. */
function layBlock({ tokens, positions }: OwnText): LaidBlock | undefined {
  const at = positions[0];
  if (at === undefined) return undefined;
  const gapless = (positions.at(-1) ?? at) - at === tokens.length - 1;
  return { block: gapless ? { tokens } : { tokens, offsets: positions.map((position) => position - at) }, at };
}

/** The modules' own texts as one block, in the order of their positions. */
function layScaffold({ name, modules }: Scaffold, outer: string, laid: ReadonlyMap<string, ModuleLayout>): ScaffoldLayout[] {
  const paths = modules.map((path) => pathWithin(outer, path));
  const all = paths.flatMap((path) => {
    const own = laid.get(path)?.own;
    return own ? own.tokens.map((token, i) => ({ token, position: own.positions[i] ?? 0 })) : [];
  });
  all.sort((a, b) => a.position - b.position);
  const block = layBlock({ tokens: all.map(({ token }) => token), positions: all.map(({ position }) => position) });
  return block ? [{ ...block, path: pathWithin(outer, name), modules: paths }] : [];
}
