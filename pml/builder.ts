import { KvspliceError } from "../plan/index.js";
import { isXmlCharacter } from "./entity.js";
import type {
  Comment,
  Context,
  DocumentSlot,
  Import,
  Include,
  Message,
  Module,
  Overflow,
  Parameter,
  ParameterType,
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
  Variable,
  VariableType,
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
 * Strings are text as they are: write a line feed wherever one is wanted. A character that XML does not allow throws
 * `KvspliceError` `bad_argument`; checkSchema and checkPrompt check every other rule.
 */

/** The fields that a node adds to the object with which a prompt includes modules. Exists only in types. */
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
/** For a module that may be repeated: one inclusion or several. */
type RepeatedFields<Name extends string, Children extends readonly unknown[]> = {
  readonly [Key in Name]?: InclusionOf<MergedFields<Children>> | readonly InclusionOf<MergedFields<Children>>[] | undefined;
};

/** `context` is what modules see unless they set their own; `none` by default. */
export type SchemaOptions = { readonly context?: Context } & Spaced;
/** `cache` is true and there is no `priority` by default; `src` names a file that holds the module's text. */
export type ModuleOptions = {
  readonly src?: string;
  readonly cache?: boolean;
  readonly priority?: number;
  readonly context?: Context;
  /** The condition under which it is included: `premium`, `!premium`, `tone=formal`, `tone!=formal`. */
  readonly if?: string;
} & Spaced;
/** `repeat`: how many times a prompt may include it. */
export type RepeatedOptions = ModuleOptions & { readonly repeat: number };
/** `default` names the member that other modules see while they are encoded. */
export type UnionOptions = { readonly default?: string };
/** `open`: what follows continues this message; false by default. */
export type MessageOptions = { readonly open?: boolean } & Spaced;
/** How much room a value gets in the prompt. */
export type ValueOptions = {
  /** Positions to reserve, in tokens. */
  readonly length: number;
  /** What takes its place while modules are encoded. */
  readonly placeholder?: string;
  /** What to do with a text of more tokens; `error` by default. */
  readonly overflow?: Overflow;
};
/** An argument without a `default` must be given. */
export type ParameterOptions = ValueOptions & {
  readonly default?: string;
  /** `text` by default. */
  readonly type?: ParameterType;
};
/** A variable without a `default` must be given, unless it is `boolean`. */
export type VariableOptions = { /** `text` by default. */ readonly type?: VariableType; readonly default?: string };

/** A schema whose type knows what its prompts may include. */
export type TypedSchema<Children extends readonly unknown[]> = Typed<Schema, MergedFields<Children>>;

/**
 * A schema: modules at fixed positions, and the text around them.
 *
 *     const trip = schema("trip", system("You are a travel guide."), module("tokyo", "Tokyo is ..."));
 *
 * @param name what prompts call it
 * @throws KvspliceError `bad_argument` for a character that XML does not allow
 */
export function schema<const Children extends readonly Child[]>(name: string, ...children: Children): TypedSchema<Children>;
export function schema<const Children extends readonly Child[]>(
  name: string,
  options: SchemaOptions,
  ...children: Children
): TypedSchema<Children>;
export function schema(name: string, ...content: (Child | SchemaOptions)[]): Schema {
  const [{ context, ...options }, children] = splitOptions<SchemaOptions, SchemaNode>(content);
  return {
    kind: "schema",
    name: characters(name),
    ...(context && { context }),
    ...spaced(options),
    children: contentOf(children),
    preamble: [],
  };
}

/**
 * A part of a schema that is encoded once and that prompts include by name.
 *
 *     module("plan", "The traveller stays for ", parameter("days", { length: 6 }), ".")
 */
export function module<const Name extends string, const Children extends readonly Child[]>(
  name: Name,
  ...children: Children
): Typed<Module, ModuleFields<Name, Children>>;
export function module<const Name extends string, const Children extends readonly Child[]>(
  name: Name,
  options: RepeatedOptions,
  ...children: Children
): Typed<Module, RepeatedFields<Name, Children>>;
export function module<const Name extends string, const Children extends readonly Child[]>(
  name: Name,
  options: ModuleOptions,
  ...children: Children
): Typed<Module, ModuleFields<Name, Children>>;
export function module(name: string, ...content: (Child | ModuleOptions)[]): Module {
  const [options, children] = splitOptions<ModuleOptions & { readonly repeat?: number }, SchemaNode>(content);
  const { src, cache = true, priority, context, repeat, if: condition } = options;
  return {
    kind: "module",
    name: characters(name),
    ...(src === undefined ? {} : { src: characters(src) }),
    cache,
    ...(priority === undefined ? {} : { priority }),
    ...(context && { context }),
    ...(repeat === undefined ? {} : { repeat }),
    ...(condition === undefined ? {} : { if: characters(condition) }),
    ...spaced(options),
    children: contentOf(children),
  };
}

/**
 * Modules that start at the same position, of which a prompt includes at most one.
 *
 *     union(module("miami", { src: "miami.md" }), module("tokyo", "Tokyo is ..."))
 */
export function union<const Members extends readonly (Module | Comment)[]>(...members: Members): Typed<Union, MergedFields<Members>>;
export function union<const Members extends readonly (Module | Comment)[]>(
  options: UnionOptions,
  ...members: Members
): Typed<Union, MergedFields<Members>>;
export function union(...content: readonly (Module | Comment | UnionOptions)[]): Union {
  const [{ default: seen }, members] = splitOptions<UnionOptions, Module | Comment>(content);
  return { kind: "union", ...(seen === undefined ? {} : { default: characters(seen) }), children: members as (Module | Comment)[] };
}

type ArgumentOf<Options> = Options extends { readonly type: "number" } ? number | string : string;
type Asked<Name extends string, Options, Value> = Options extends { readonly default: string }
  ? { readonly [Key in Name]?: Value }
  : { readonly [Key in Name]: Value };

/**
 * A gap in a module for an argument of at most `length` tokens.
 *
 *     module("plan", "The traveller stays for ", parameter("days", { length: 6 }), ".")
 */
export function parameter<const Name extends string, const Options extends ParameterOptions>(
  name: Name,
  options: Options,
): Typed<Parameter, Asked<Name, Options, ArgumentOf<Options>>>;
export function parameter(name: string, { type = "text", default: value, ...options }: ParameterOptions): Parameter {
  return { ...parameterOf(name, options), type, ...(value === undefined ? {} : { default: characters(value) }) };
}

/** A variable's value, at this place. */
export function valueOf(variable: string, options: ValueOptions): Parameter {
  return { ...parameterOf(variable, options), variable: true };
}

function parameterOf(name: string, { length, placeholder, overflow = "error" }: ValueOptions): Parameter {
  return {
    kind: "parameter",
    name: characters(name),
    length,
    type: "text",
    ...(placeholder === undefined ? {} : { placeholder: characters(placeholder) }),
    overflow,
  };
}

type VariableFields<Name extends string, Options> = Options extends { readonly type: "boolean" }
  ? { readonly [Key in Name]?: boolean }
  : Asked<Name, Options, ArgumentOf<Options>>;

/** A value that each prompt gives once: for `valueOf` and for the `if` of modules. */
export function variable<const Name extends string, const Options extends VariableOptions = {}>(
  name: Name,
  options?: Options,
): Typed<Variable, VariableFields<Name, Options>>;
export function variable(name: string, { type = "text", default: value }: VariableOptions = {}): Variable {
  return { kind: "variable", name: characters(name), type, ...(value === undefined ? {} : { default: characters(value) }) };
}

type MessageOf<Children extends readonly unknown[]> = Typed<
  Message<Children[number] extends infer Each ? (Each extends string ? Text : Each) : never>,
  MergedFields<Children>
>;

type MessageBuilder = {
  <const Children extends readonly Child[]>(...children: Children): MessageOf<Children>;
  <const Children extends readonly Child[]>(options: MessageOptions, ...children: Children): MessageOf<Children>;
};

/** A message that tells the model how to behave: `system("You are a travel guide.")`. */
export const system: MessageBuilder = messageOf("system");
/** A user message. */
export const user: MessageBuilder = messageOf("user");
/** A message of the model. */
export const assistant: MessageBuilder = messageOf("assistant");

function messageOf(role: Role): MessageBuilder {
  const build = (...content: (Child | MessageOptions)[]): SchemaMessage => {
    const [{ open = false, ...options }, children] = splitOptions<MessageOptions, SchemaNode>(content);
    return { kind: "message", role, open, ...spaced(options), children: contentOf(children) };
  };
  return build as unknown as MessageBuilder;
}

/**
 * `<scaffold>`: modules that are encoded together, so that they see each other in prompts that include all of them.
 *
 * @param modules paths of the modules, relative to the scaffold's parent
 */
export function scaffold(name: string, modules: readonly string[]): Scaffold {
  return { kind: "scaffold", name: characters(name), modules: modules.map(characters) };
}

/** `<import>`: the other schema's modules. */
export function importSchema(file: string): Import {
  return { kind: "import", schema: characters(file) };
}

/** A document of a corpus, at any place of a prompt. @param ref its name, as `kvsplice chunks` lists it */
export function document(ref: string): DocumentSlot {
  return { kind: "document", ref: characters(ref) };
}

/** A note for readers. @throws KvspliceError `bad_argument` for a text that contains `--` */
export function comment(text: string): Comment {
  if (`${text}-`.includes("--")) throw new KvspliceError("bad_argument", "a comment must not contain `--` or end with `-`; reword it");
  return { kind: "comment", text: characters(text) };
}

/** A module's inclusion when types do not know the schema: `true`, or its arguments and nested modules by name, or a list of these. */
export type Inclusion = string | number | boolean | undefined | Inclusions | readonly (boolean | Inclusions)[];
type Inclusions = { readonly [name: string]: Inclusion };
type IncludesOf<Of> = Of extends { readonly [FIELDS]: infer Fields }
  ? keyof Fields extends never
    ? NoFields
    : Fields
  : Readonly<Record<string, Inclusion>>;

type Words = string | Comment | DocumentSlot | PromptMessage;

/**
 * `<prompt>`: the modules that a prompt includes from a schema, and its own text.
 *
 *     const packing = prompt(trip, { coat: true, city: { name: "Lima" } }, "What should I pack?");
 *
 * @param of the schema, or only its name; for a name, or a schema read from a file, types know no modules
 * @param includes modules by name: `true`, or an object of arguments and nested modules, or a list of these if the
 *   module may be repeated; and the values of the schema's variables
 */
export function prompt<Of extends Schema | string>(of: Of, includes: IncludesOf<Of>, ...words: readonly Words[]): Prompt;
/** The same with options, such as how white space is kept. */
export function prompt<Of extends Schema | string>(
  of: Of,
  includes: IncludesOf<Of>,
  options: SchemaOptions,
  ...words: readonly Words[]
): Prompt;
export function prompt(of: Schema | string, includes: object, ...content: readonly (Words | SchemaOptions)[]): Prompt {
  const [options, words] = splitOptions<SchemaOptions, PromptNode>(content);
  const variables = new Set(typeof of === "string" ? [] : of.children.flatMap((node) => (node.kind === "variable" ? [node.name] : [])));
  const { arguments: values, children } = includeOf("prompt", includes as Inclusions, variables);
  return {
    kind: "prompt",
    schema: characters(typeof of === "string" ? of : of.name),
    values,
    ...spaced(options),
    children: [...children, ...contentOf(words)],
    preamble: [],
  };
}

/** @param variables names for which `true` and `false` are values */
function includeOf(name: string, inclusion: Inclusions, variables: ReadonlySet<string> = new Set()): Include {
  const entries = Object.entries(inclusion);
  const values = entries.flatMap(([key, value]) => {
    const isValue = typeof value === "string" || typeof value === "number" || (typeof value === "boolean" && variables.has(key));
    return isValue ? [[characters(key), characters(String(value))] as const] : [];
  });
  const children = entries.flatMap(([child, value]) =>
    variables.has(child)
      ? []
      : (Array.isArray(value) ? value : [value]).flatMap((each: Inclusion) => {
          if (each === true) return [includeOf(child, {})];
          return typeof each === "object" ? [includeOf(child, each as Inclusions)] : [];
        }),
  );
  return { kind: "include", name: characters(name), arguments: Object.fromEntries(values), children };
}

function splitOptions<Options extends object, Node>(content: readonly unknown[]): [Partial<Options>, (Node | string)[]] {
  const [first, ...rest] = content;
  const isOptions = typeof first === "object" && first !== null && !("kind" in first);
  return isOptions ? [first as Partial<Options>, rest as (Node | string)[]] : [{}, content as (Node | string)[]];
}

/** Adjacent strings become one text; empty ones are dropped. */
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

/** The text itself, if XML allows all its characters. */
function characters(text: string): string {
  for (const character of text) {
    const codePoint = character.codePointAt(0) ?? 0;
    if (!isXmlCharacter(codePoint)) {
      const written = codePoint.toString(16).toUpperCase().padStart(4, "0");
      throw new KvspliceError(
        "bad_argument",
        `XML does not allow the character U+${written}; remove it from ${JSON.stringify(text.slice(0, 40))}`,
      );
    }
  }
  return text;
}
