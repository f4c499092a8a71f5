import { KvspliceError } from "../plan/index.js";
import { isXmlCharacter } from "./entity.js";
import type {
  Comment,
  DocumentSlot,
  Import,
  Include,
  Message,
  Module,
  Overflow,
  Parameter,
  Prompt,
  PromptMessage,
  PromptNode,
  Role,
  Scaffold,
  Schema,
  SchemaMessage,
  SchemaNode,
  Spaced,
  Text,
  Union,
} from "./tree.js";

/**
 * Schemas and prompts in TypeScript: the same trees as markup makes, with types that know the names of a schema's
 * modules and parameters.
 *
 *     const trip = schema(
 *       "trip",
 *       system("You are a travel guide."),
 *       module("plan", "The traveller stays for ", parameter("days", { length: 6 }), ".",
 *         union(module("miami", { src: "miami.md" }), module("tokyo", "Tokyo is ..."))),
 *     );
 *     const packing = prompt(trip, { plan: { days: "three days", tokyo: true } }, user("What should I pack?"));
 *
 * Strings are text as they are: the line feed that ends a line is written where it is wanted. What XML has no character for throws `KvspliceError`
 * `bad_argument`; every other rule is for checkSchema and checkPrompt.
 */

/** What a node adds to the object by which a prompt includes modules. Exists in types alone. */
declare const FIELDS: unique symbol;
type Typed<Node, Fields> = Node & { readonly [FIELDS]: Fields };

type Child = string | SchemaNode;

type FieldsOf<Node> = Node extends { readonly [FIELDS]: infer Fields } ? Fields : never;
type Intersection<Types> = (Types extends unknown ? (type: Types) => void : never) extends (type: infer All) => void ? All : never;
type Simplified<Type> = { [Key in keyof Type]: Type[Key] };
type MergedFields<Children extends readonly unknown[]> = Simplified<Intersection<FieldsOf<Children[number]>>>;

type NoFields = Readonly<Record<string, never>>;
/** `true` includes a module that needs no argument. */
type InclusionOf<Fields> = keyof Fields extends never ? boolean | NoFields : {} extends Fields ? boolean | Fields : Fields;
type ModuleFields<Name extends string, Children extends readonly unknown[]> = {
  readonly [Key in Name]?: InclusionOf<MergedFields<Children>> | undefined;
};

export type SchemaOptions = Spaced;
export type ModuleOptions = { readonly src?: string; readonly cache?: boolean; readonly priority?: number } & Spaced;
export type MessageOptions = { readonly open?: boolean } & Spaced;
export type ParameterOptions = {
  /** Positions that it reserves, in tokens. */
  readonly length: number;
  readonly default?: string;
  /** What becomes of an argument with more tokens; `error` when left out. */
  readonly overflow?: Overflow;
};

export type TypedSchema<Children extends readonly unknown[]> = Typed<Schema, MergedFields<Children>>;

export function schema<const Children extends readonly Child[]>(name: string, ...children: Children): TypedSchema<Children>;
export function schema<const Children extends readonly Child[]>(
  name: string,
  options: SchemaOptions,
  ...children: Children
): TypedSchema<Children>;
export function schema(name: string, ...content: (Child | SchemaOptions)[]): Schema {
  const [options, children] = splitOptions<SchemaOptions, SchemaNode>(content);
  return { kind: "schema", name: characters(name), ...spaced(options), children: contentOf(children), preamble: [] };
}

export function module<const Name extends string, const Children extends readonly Child[]>(
  name: Name,
  ...children: Children
): Typed<Module, ModuleFields<Name, Children>>;
export function module<const Name extends string, const Children extends readonly Child[]>(
  name: Name,
  options: ModuleOptions,
  ...children: Children
): Typed<Module, ModuleFields<Name, Children>>;
export function module(name: string, ...content: (Child | ModuleOptions)[]): Module {
  const [{ src, cache = true, priority, ...options }, children] = splitOptions<ModuleOptions, SchemaNode>(content);
  return {
    kind: "module",
    name: characters(name),
    ...(src === undefined ? {} : { src: characters(src) }),
    cache,
    ...(priority === undefined ? {} : { priority }),
    ...spaced(options),
    children: contentOf(children),
  };
}

export function union<const Members extends readonly (Module | Comment)[]>(...members: Members): Typed<Union, MergedFields<Members>>;
export function union(...members: readonly (Module | Comment)[]): Union {
  return { kind: "union", children: members };
}

export function parameter<const Name extends string>(
  name: Name,
  options: ParameterOptions & { readonly default: string },
): Typed<Parameter, { readonly [Key in Name]?: string }>;
export function parameter<const Name extends string>(
  name: Name,
  options: ParameterOptions,
): Typed<Parameter, { readonly [Key in Name]: string }>;
export function parameter(name: string, { length, default: value, overflow = "error" }: ParameterOptions): Parameter {
  const otherwise = value === undefined ? {} : { default: characters(value) };
  return { kind: "parameter", name: characters(name), length, ...otherwise, overflow };
}

type MessageOf<Children extends readonly unknown[]> = Typed<
  Message<Children[number] extends infer Each ? (Each extends string ? Text : Each) : never>,
  MergedFields<Children>
>;

type MessageBuilder = {
  <const Children extends readonly Child[]>(...children: Children): MessageOf<Children>;
  <const Children extends readonly Child[]>(options: MessageOptions, ...children: Children): MessageOf<Children>;
};

export const system: MessageBuilder = messageOf("system");
export const user: MessageBuilder = messageOf("user");
export const assistant: MessageBuilder = messageOf("assistant");

function messageOf(role: Role): MessageBuilder {
  const build = (...content: (Child | MessageOptions)[]): SchemaMessage => {
    const [{ open = false, ...options }, children] = splitOptions<MessageOptions, SchemaNode>(content);
    return { kind: "message", role, open, ...spaced(options), children: contentOf(children) };
  };
  return build as unknown as MessageBuilder;
}

/** @param modules paths of the modules that are encoded together, from where the scaffold stands */
export function scaffold(name: string, modules: readonly string[]): Scaffold {
  return { kind: "scaffold", name: characters(name), modules: modules.map(characters) };
}

/** `<import>`: the other schema's modules. */
export function importSchema(file: string): Import {
  return { kind: "import", schema: characters(file) };
}

export function document(ref: string): DocumentSlot {
  return { kind: "document", ref: characters(ref) };
}

export function comment(text: string): Comment {
  if (`${text}-`.includes("--")) throw new KvspliceError("bad_argument", "a comment has no `--` in it and no `-` at its end; reword it");
  return { kind: "comment", text: characters(text) };
}

/** A module's inclusion where types do not know the schema: `true`, or its arguments and nested modules by name. */
export type Inclusion = string | boolean | undefined | { readonly [name: string]: Inclusion };
type IncludesOf<Of> = Of extends { readonly [FIELDS]: infer Fields }
  ? keyof Fields extends never
    ? NoFields
    : Fields
  : Readonly<Record<string, Inclusion>>;

type Words = string | Comment | DocumentSlot | PromptMessage;

/**
 * @param of the schema; of one that was read from a file, or of its name alone, the types know no modules
 * @param includes modules by name: `true`, or an object of arguments and nested modules
 */
export function prompt<Of extends Schema | string>(of: Of, includes: IncludesOf<Of>, ...words: readonly Words[]): Prompt;
export function prompt<Of extends Schema | string>(
  of: Of,
  includes: IncludesOf<Of>,
  options: SchemaOptions,
  ...words: readonly Words[]
): Prompt;
export function prompt(of: Schema | string, includes: object, ...content: readonly (Words | SchemaOptions)[]): Prompt {
  const [options, words] = splitOptions<SchemaOptions, PromptNode>(content);
  const { arguments: loose, children } = includeOf("prompt", includes as Readonly<Record<string, Inclusion>>);
  for (const name of Object.keys(loose)) {
    throw new KvspliceError("bad_argument", `\`${name}\` is given text; include a module by \`true\` or by an object of its arguments`);
  }
  return {
    kind: "prompt",
    schema: characters(typeof of === "string" ? of : of.name),
    ...spaced(options),
    children: [...children, ...contentOf(words)],
    preamble: [],
  };
}

function includeOf(name: string, inclusion: Readonly<Record<string, Inclusion>>): Include {
  const entries = Object.entries(inclusion);
  const given = entries.filter((entry): entry is [string, string] => typeof entry[1] === "string");
  const children = entries.flatMap(([child, value]) => {
    if (value === true) return [includeOf(child, {})];
    return typeof value === "object" ? [includeOf(child, value)] : [];
  });
  const values = given.map(([parameter, value]) => [characters(parameter), characters(value)] as const);
  return { kind: "include", name: characters(name), arguments: Object.fromEntries(values), children };
}

function splitOptions<Options extends object, Node>(content: readonly unknown[]): [Partial<Options>, (Node | string)[]] {
  const [first, ...rest] = content;
  const isOptions = typeof first === "object" && first !== null && !("kind" in first);
  return isOptions ? [first as Partial<Options>, rest as (Node | string)[]] : [{}, content as (Node | string)[]];
}

/** Strings that are neighbours are one text, and an empty one is none. */
function contentOf<Node extends SchemaNode | PromptNode>(children: readonly (string | Node)[]): (Node | Text)[] {
  const nodes: (Node | Text)[] = [];
  for (const child of children) {
    const last = nodes.at(-1);
    if (child === "") continue;
    if (typeof child !== "string") nodes.push(child);
    else if (last?.kind === "text") nodes[nodes.length - 1] = textOf(last.text + child);
    else nodes.push(textOf(child));
  }
  return nodes;
}

function spaced({ space, wrap }: Spaced): Spaced {
  return { ...(space && { space }), ...(wrap && { wrap }) };
}

function textOf(text: string): Text {
  return { kind: "text", text: characters(text) };
}

/** The text itself, when XML has all of its characters. */
function characters(text: string): string {
  for (const character of text) {
    const codePoint = character.codePointAt(0) ?? 0;
    if (!isXmlCharacter(codePoint)) {
      const written = codePoint.toString(16).toUpperCase().padStart(4, "0");
      throw new KvspliceError("bad_argument", `XML has no character U+${written}; take it out of ${JSON.stringify(text.slice(0, 40))}`);
    }
  }
  return text;
}
