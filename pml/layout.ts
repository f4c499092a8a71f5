import type { BlockSource, ChatTemplate, Range, Tokenizer } from "../plan/index.js";
import { checkSchema } from "./check.js";
import { BeyondCount, boundedEncoder, type Encode } from "./count.js";
import { type Diagnostic, diagnosticList, hasErrors, type Report } from "./diagnostic.js";
import { type Lead, preserves, type Run, runsOf } from "./run.js";
import { pathWithin, repetition } from "./scope.js";
import { NOTHING, runsSince, type Seen, type Sight, seenMore, tokensSeen } from "./seen.js";
import { attributeSpans } from "./source.js";
import type { DocumentSlot, Module, Parameter, Role, Scaffold, Schema, SchemaMessage, SchemaNode, Context as Sees, Union } from "./tree.js";

/**
 * A schema's positions, as in Prompt Cache (Gim et al., MLSys 2024): every module has its own, whichever modules
 * a prompt includes. All lengths are in tokens; all positions are absolute, from 0 at the schema's start.
 */
export type Layout = {
  readonly schema: Schema;
  readonly options: LayoutOptions;
  /** The anonymous module: all text outside modules. */
  readonly root: ModuleLayout;
  /** Positions that the schema takes; the prompt's own text starts here. */
  readonly length: number;
  readonly scaffolds: readonly ScaffoldLayout[];
  /** The message that the schema leaves open, and the control text that closes it. */
  readonly open?: { readonly role: Role; readonly close: string };
};

/** What tokens are counted with. */
export type LayoutOptions = {
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
  /** The model's context in tokens: longer schemas are reported, and counting stops far beyond it. */
  readonly contextLength?: number;
};

/** A module's positions, in tokens, and the blocks that contain it. */
export type ModuleLayout = {
  readonly node: Schema | Module;
  /** Names from the outermost module to this one, joined by `/`; empty for the anonymous module. Repetitions are numbered. */
  readonly path: string;
  readonly start: number;
  /** Positions that it takes, including nested modules and unions. */
  readonly length: number;
  readonly cached: boolean;
  /** Its own text, whether cached or not. */
  readonly own: OwnText;
  /** Its own text as it is encoded: by itself, in one piece, with gaps for nested modules and parameters. */
  readonly block?: LaidBlock;
  /** What its text sees before it, and other text within it; for its own block and for scaffolds that contain it. */
  readonly seen: Seen;
  readonly strange: Laying["strange"];
  /** Its content in document order. */
  readonly parts: readonly Part[];
  /** Role of the last message in its own content. */
  readonly lastRole: Role | undefined;
};

export type OwnText = { readonly tokens: readonly number[]; readonly positions: readonly number[] };

/** A block, and the piece of a plan that places it. Omitted tokens were only seen: placeholders and members of unions. */
export type LaidBlock = { readonly block: BlockSource; readonly at: number; readonly omit?: readonly Range[] };

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
  /** Role of its message. */
  readonly role?: Role;
};

export type ParameterPart = {
  readonly kind: "parameter";
  readonly parameter: Parameter;
  readonly at: number;
  readonly lead: Lead;
  readonly role?: Role;
};

/** Modules that are encoded together, as one block. */
export type ScaffoldLayout = LaidBlock & {
  readonly path: string;
  readonly modules: readonly string[];
  /** Tokens before it that its block saw, if any. */
  readonly sees?: number;
};

/** A schema's layout, or the rules it breaks. */
export type LaidSchema = { readonly layout?: Layout; readonly diagnostics: readonly Diagnostic[] };

/**
 * Lays out a resolved schema. If it breaks a rule of the language there is no layout, and the diagnostics are
 * checkSchema's. Otherwise they are only those that need token counts.
 */
export function layoutSchema(schema: Schema, options: LayoutOptions): LaidSchema {
  const checked = checkSchema(schema);
  if (hasErrors(checked)) return { diagnostics: checked };

  const { diagnostics, report } = diagnosticList();
  const { chat, contextLength } = options;
  const { encode, limit } = boundedEncoder(options);
  const context: Context = { encode, chat, limit, report, modules: new Map(), scaffolds: [], roleBefore: undefined, sight: NOTHING };
  let root: ModuleLayout;
  try {
    root = layModule(schema, { path: "", start: 0, preserve: false, lead: "", sees: DEFAULT_CONTEXT }, context);
  } catch (error) {
    if (!(error instanceof BeyondCount)) throw error;
    const message = `the schema is more than ${limit} tokens long, far beyond the model's context of ${contextLength}; counting stopped`;
    report("too-many-tokens", message, schema.origin);
    return { diagnostics };
  }
  if (contextLength !== undefined && root.length > contextLength) {
    const message = `the schema is ${root.length} tokens long, but the model's context has ${contextLength}`;
    report("schema-too-long", message, schema.origin);
  }
  if (hasErrors(diagnostics)) return { diagnostics };
  const scaffolds = context.scaffolds.flatMap(({ node, outer }) => layScaffold(node, outer, context.modules));
  const open = context.open && { open: context.open };
  return { layout: { schema, options, root, length: root.length, scaffolds, ...open }, diagnostics };
}

/** Every block of a schema, so that all can be computed ahead. */
export function blocksOf({ root, scaffolds }: Layout): readonly BlockSource[] {
  const blocks = Array.from(eachModule(root), ({ block }) => block?.block).filter((block) => block !== undefined);
  return [...blocks, ...scaffolds.map(({ block }) => block)];
}

/** Names of blocks: a module's path, the schema's name for text outside modules, or `scaffold` with its path. */
export function blockNames({ schema, root, scaffolds }: Layout): ReadonlyMap<BlockSource, string> {
  const modules = Array.from(eachModule(root), ({ block, path }) =>
    block ? [[block.block, path === "" ? schema.name : path] as const] : [],
  );
  return new Map([...modules.flat(), ...scaffolds.map(({ block, path }) => [block, `scaffold ${path}`] as const)]);
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
  /** Position at which counting stops. */
  readonly limit: number;
  readonly report: Report;
  readonly modules: Map<string, ModuleLayout>;
  readonly scaffolds: { readonly node: Scaffold; readonly outer: string }[];
  /** Role of the preceding message, in document order. */
  roleBefore: Role | undefined;
  /** What a module that begins here may see. */
  sight: Sight;
  open?: NonNullable<Layout["open"]>;
};

/** For schemas that set none: docs/pml.md has the benefits and costs of the others. */
export const DEFAULT_CONTEXT: Sees = "none";

/** Parameters of up to this length are padded with spaces (bench/pml-placeholders.ts measures the effect). */
const SHORT_PARAMETER = 64;

/** A module while it is being laid out. */
type Laying = {
  readonly path: string;
  readonly tokens: number[];
  readonly positions: number[];
  /** Tokens within its text that it sees but that are not its own. */
  readonly strange: { readonly token: number; readonly position: number }[];
  readonly cached: boolean;
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
  /** What modules here see unless they set their own. */
  readonly sees: Sees;
};

function layModule(node: Schema | Module, { path, start, preserve, lead, role, sees: around }: Place, context: Context): ModuleLayout {
  const cached = node.kind === "schema" || node.cache;
  const laying: Laying = { path, tokens: [], positions: [], strange: [], cached, parts: [], lastRole: undefined, cursor: start };
  const sees = node.context ?? around;
  const seen = sees === "none" ? undefined : context.sight[sees];
  layContent(node.children, laying, { preserve: preserves(node.space, preserve), lead, role, sees }, context);
  const { tokens, positions, strange, parts, lastRole, cursor } = laying;
  const own = { tokens, positions };
  const block = cached ? layBlock(own, strange, seen) : undefined;
  const module = { node, path, start, length: cursor - start, cached, own, ...(block && { block }), seen, strange, parts, lastRole };
  context.modules.set(path, module);
  return module;
}

type ContentOptions = Pick<Place, "preserve" | "lead" | "role" | "sees">;

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
      const { before } = context.sight;
      for (const module of layRepeated(node, laying, options, context)) {
        laying.parts.push({ kind: "module", module });
        laying.cursor += module.length;
      }
      context.sight = { ...context.sight, before }; // a prompt may leave it out
      break;
    }
    case "union":
      layUnion(node, laying, options, context);
      break;
    case "message":
      layMessage(node, laying, options, context);
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

/** A module as often as a prompt may include it, one after the other. All see the same, so that they share one block. */
function* layRepeated(module: Module, { path, cursor }: Laying, options: ContentOptions, context: Context): Generator<ModuleLayout> {
  const { sight } = context;
  let start = cursor;
  for (let i = 0; i < (module.repeat ?? 1); i++) {
    context.sight = sight;
    const laid = layModule(module, { ...options, path: pathWithin(path, repetition(module.name, i)), start }, context);
    start += laid.length;
    if (start > context.limit) throw new BeyondCount();
    yield laid;
  }
}

/** Members start together; the union takes as many positions as its longest member. Later text sees its default. */
function layUnion(union: Union, laying: Laying, options: ContentOptions, context: Context): void {
  const start = laying.cursor;
  const before = context.roleBefore;
  const { sight } = context;
  let after = before;
  let seen = sight;
  const members: ModuleLayout[] = [];
  let length = 0;
  for (const child of union.children) {
    if (child.kind !== "module") continue;
    context.roleBefore = before;
    context.sight = sight;
    const repeated = [...layRepeated(child, laying, options, context)];
    members.push(...repeated);
    length = Math.max(
      length,
      repeated.reduce((sum, member) => sum + member.length, 0),
    );
    after = context.roleBefore ?? after;
    if (child.name === union.default) seen = context.sight;
  }
  context.roleBefore = after;
  context.sight = seen;
  for (const { tokens, at } of runsSince(seen.before, sight.before)) addStrange(tokens, at, laying);
  laying.parts.push({ kind: "union", start, length, members });
  laying.cursor += length;
}

function layMessage(message: SchemaMessage, laying: Laying, { preserve, sees }: ContentOptions, context: Context): void {
  const { role, open, space, children } = message;
  const frame = context.chat.frame(role, context.roleBefore);
  context.roleBefore = role;
  laying.lastRole = role;
  addText(frame.open, { control: true, role }, laying, context);
  layContent(children, laying, { preserve: preserves(space, preserve), lead: "", role, sees }, context);
  if (open) context.open = { role, close: frame.close };
  else addText(frame.close, { control: true, role }, laying, context);
}

type ParameterRun = Extract<Run<SchemaNode>, { kind: "parameter" }>;

/** Reserves the parameter's positions; what is encoded there is seen during encoding, but not used in answers. */
function layParameter({ parameter, lead }: ParameterRun, role: Role | undefined, laying: Laying, context: Context): void {
  const { name, length, default: value, overflow, origin } = parameter;
  const placeholder = placeholderOf({ parameter, lead }, context.encode);
  if (placeholder.length > length && parameter.placeholder !== undefined) {
    const message = `the placeholder of \`${name}\` is ${placeholder.length} tokens long, but its parameter reserves ${length}; the rest is not seen`;
    context.report("placeholder-too-long", message, attributeSpans(origin, "placeholder").value);
  }
  addStrange(placeholder.slice(0, length), laying.cursor, laying);
  addSeen(placeholder.slice(0, length), laying.cursor, laying, context);
  if (value !== undefined && overflow === "error") {
    const tokens = context.encode(argumentText(lead, value)).length;
    if (tokens > length) {
      const message = `the default of \`${name}\` is ${tokens} tokens long, but its parameter reserves ${length}`;
      context.report("default-too-long", message, attributeSpans(origin, "default").value);
    }
  }
  laying.parts.push({ kind: "parameter", parameter, at: laying.cursor, lead, ...(role && { role }) });
  laying.cursor += length;
}

/** Tokens that take a parameter's place while modules are encoded: the author's text or the default, and spaces. */
function placeholderOf({ parameter, lead }: Pick<ParameterRun, "parameter" | "lead">, encode: Encode): readonly number[] {
  const { placeholder, default: value, length } = parameter;
  const text = placeholder ?? (value || undefined);
  const said = text === undefined ? [] : encode(argumentText(lead, text));
  const [space] = length > SHORT_PARAMETER || placeholder === "" ? [] : encode(" ");
  return space === undefined ? said : [...said, ...Array.from({ length: Math.max(0, length - said.length) }, () => space)];
}

function addStrange(tokens: readonly number[], at: number, { strange }: Laying): void {
  for (const [i, token] of tokens.entries()) strange.push({ token, position: at + i });
}

/** Text computed with each prompt may differ between prompts, so nothing sees it. */
function addSeen(tokens: readonly number[], at: number, { cached }: Laying, context: Context): void {
  if (cached && tokens.length > 0) context.sight = seenMore(context.sight, tokens, at);
}

/** An empty argument adds no text, not even the space before it. */
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
  addSeen(tokens, laying.cursor, laying, context);
  for (const token of tokens) {
    laying.tokens.push(token);
    laying.positions.push(laying.cursor++);
  }
  if (laying.cursor > context.limit) throw new BeyondCount();
}

/** A module's own text, with the other text that it sees within and before it. Undefined if there is nothing to encode. */
function layBlock({ tokens, positions }: OwnText, strange: Laying["strange"], seen: Seen): LaidBlock | undefined {
  const end = positions.at(-1);
  if (end === undefined) return undefined;
  const own = tokens.map((token, i) => ({ token, position: positions[i]!, own: true }));
  // Anything after the last own token is seen by none of them.
  const all = [...own, ...strange.filter(({ position }) => position < end).map((each) => ({ ...each, own: false }))];
  all.sort((a, b) => a.position - b.position);
  const at = all[0]!.position;
  const gapless = end - at === all.length - 1;
  const omit = trueRuns(all.map((each) => !each.own));
  const block = {
    tokens: all.map(({ token }) => token),
    ...(!gapless && { offsets: all.map(({ position }) => position - at) }),
  };
  return { block: seen ? seeing(block, seen) : block, at, ...(omit.length > 0 && { omit }) };
}

/** A block after the text it sees. Computed lazily, as each of many modules may see all text before it. */
function seeing(block: BlockSource, seen: Seen): BlockSource {
  return Object.defineProperty({ ...block }, "after", { enumerable: true, get: () => tokensSeen(seen) });
}

/** Runs of `true`, half-open. */
function trueRuns(flags: readonly boolean[]): Range[] {
  const runs: [number, number][] = [];
  for (const [i, flag] of flags.entries()) {
    const last = runs.at(-1);
    if (flag && last?.[1] === i) last[1]++;
    else if (flag) runs.push([i, i + 1]);
  }
  return runs;
}

/** The modules' own texts as one block, in the order of their positions. */
function layScaffold({ name, modules }: Scaffold, outer: string, laid: ReadonlyMap<string, ModuleLayout>): ScaffoldLayout[] {
  const paths = modules.map((path) => pathWithin(outer, path));
  const members = paths.flatMap((path) => laid.get(path) ?? []).sort((a, b) => a.start - b.start);
  const all = members.flatMap(({ own }) => own.tokens.map((token, i) => ({ token, position: own.positions[i]! })));
  all.sort((a, b) => a.position - b.position);
  const own = { tokens: all.map(({ token }) => token), positions: all.map(({ position }) => position) };
  // Text of one member that another sees in its place is part of the block itself.
  const there = new Set(own.positions);
  const strange = members.flatMap((member) => member.strange).filter(({ position }) => !there.has(position));
  const seen = members[0]?.seen;
  const block = layBlock(own, strange, seen);
  return block ? [{ ...block, path: pathWithin(outer, name), modules: paths, ...(seen && { sees: seen.length }) }] : [];
}
