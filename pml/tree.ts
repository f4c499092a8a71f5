import type { Role } from "../plan/index.js";
import type { Origin } from "./source.js";

export type { Role };

/**
 * The trees of PML. Markup and builder produce the same trees, except for `origin` and `written`.
 *
 * Text in a tree is what the model reads: the markup's layout is gone (whitespace.ts). Texts are adjacent only if
 * one of them is CDATA, and none is empty.
 */
type Written = { readonly origin?: Origin };

/** `xml:space` and `wrap` as written; each applies to all content unless an inner element overrides it. */
export type Spaced = { readonly space?: Space; readonly wrap?: Wrap };
/** `preserve`: the markup's layout is text too. */
export type Space = "preserve" | "default";
/** `soft`: an author's line breaks within a paragraph are spaces. */
export type Wrap = "hard" | "soft";

/** Text that the model reads. */
export type Text = Written & {
  readonly kind: "text";
  readonly text: string;
  /** With the line breaks that a soft wrap turned into spaces. Kept for the formatter; has no meaning. */
  readonly written?: string;
  /** Written as a CDATA section. Kept for the formatter; has no meaning. */
  readonly cdata?: true;
};

/** Kept for the formatter; has no meaning. */
export type Comment = Written & { readonly kind: "comment"; readonly text: string };

/** The text of a module's `src`: added to the module's children when files are resolved. */
export type FileText = Written & { readonly kind: "file"; readonly text: string };

/** A gap in a module that each prompt fills with an argument. */
export type Parameter = Written & {
  readonly kind: "parameter";
  /** Name of the argument, or of the variable that fills it. */
  readonly name: string;
  /** Whether the variable of this name fills it instead of an argument. */
  readonly variable?: true;
  readonly type: ParameterType;
  /** Positions to reserve, in tokens. */
  readonly length: number;
  readonly default?: string;
  /** Takes its place while modules are encoded, for text that sees it. */
  readonly placeholder?: string;
  /** What to do with an argument of more tokens. */
  readonly overflow: Overflow;
};

/** What an argument must be: any text, or a number. */
export type ParameterType = (typeof PARAMETER_TYPES)[number];
/** All parameter types. */
export const PARAMETER_TYPES = ["text", "number"] as const;

/** A value that the prompt gives once, for parameters and conditions anywhere. */
export type Variable = Written & {
  readonly kind: "variable";
  readonly name: string;
  readonly type: VariableType;
  readonly default?: string;
};

/** What a variable's value must be. */
export type VariableType = (typeof VARIABLE_TYPES)[number];
/** All variable types. */
export const VARIABLE_TYPES = ["text", "number", "boolean"] as const;

/**
 * What a module's block sees before it. `none`: only itself. `before`: what precedes it in every prompt that includes
 * it. `all`: that, and the modules before it, whether a prompt includes them or not.
 */
export type Context = (typeof CONTEXTS)[number];
/** All contexts; `none` is the default. */
export const CONTEXTS = ["none", "before", "all"] as const;

/** `truncate-end` keeps an argument's first tokens, `truncate-start` its last. */
export type Overflow = (typeof OVERFLOWS)[number];
/** All ways to treat an argument that is too long; `error` is the default. */
export const OVERFLOWS = ["error", "truncate-end", "truncate-start"] as const;

/** A named part of a schema: encoded once; prompts include it by name. */
export type Module = Written &
  Spaced & {
    readonly kind: "module";
    readonly name: string;
    readonly src?: string;
    readonly cache: boolean;
    /** Under a token budget the module with the lowest is left out first; without one, it is never left out. */
    readonly priority?: number;
    /** Inherited if absent. */
    readonly context?: Context;
    /** How many times a prompt may include it, one after the other; once if absent. */
    readonly repeat?: number;
    /** The condition under which it is included, as condition.ts reads it; if absent, the prompt must name it. */
    readonly if?: string;
    readonly children: readonly SchemaNode[];
  };

/** Modules that start at the same position; a prompt includes at most one of them. */
export type Union = Written & {
  readonly kind: "union";
  /** The member that others see while they are encoded, whichever member a prompt includes. */
  readonly default?: string;
  readonly children: readonly (Module | Comment)[];
};

/** One message of the chat template. */
export interface Message<Child> extends Written, Spaced {
  readonly kind: "message";
  readonly role: Role;
  /** Left open at its end: what follows continues this message. */
  readonly open: boolean;
  readonly children: readonly Child[];
}

/** Modules that are encoded together, each named by its path relative to the scaffold's place. */
export type Scaffold = Written & {
  readonly kind: "scaffold";
  readonly name: string;
  readonly modules: readonly string[];
};

/** Another schema's modules, which replace it when files are resolved. */
export type Import = Written & { readonly kind: "import"; readonly schema: string };

/** A document of a corpus, without a fixed position. */
export type DocumentSlot = Written & { readonly kind: "document"; readonly ref: string };

/** A message of a schema. */
export type SchemaMessage = Message<SchemaNode>;

/** Anything allowed in a schema. */
export type SchemaNode =
  | Text
  | Comment
  | Variable
  | FileText
  | Parameter
  | Module
  | Union
  | SchemaMessage
  | Scaffold
  | Import
  | DocumentSlot;

/** Modules at fixed positions and the text around them: what prompts are made of. */
export type Schema = Written &
  Spaced & {
    readonly kind: "schema";
    readonly name: string;
    readonly context?: Context;
    readonly children: readonly SchemaNode[];
    /** Comments before the root element. */
    readonly preamble: readonly Comment[];
  };

/** A module that a prompt includes, with arguments for its parameters. */
export type Include = Written & {
  readonly kind: "include";
  readonly name: string;
  readonly arguments: Readonly<Record<string, string>>;
  readonly children: readonly (Include | Comment)[];
};

/** A message of a prompt. */
export type PromptMessage = Message<Text | Comment | DocumentSlot>;

/** Anything allowed in a prompt. */
export type PromptNode = Text | Comment | Include | PromptMessage | DocumentSlot;

/** A request: the modules it includes from a schema, and new text. */
export type Prompt = Written &
  Spaced & {
    readonly kind: "prompt";
    /** Name of the schema whose modules it includes. */
    readonly schema: string;
    /** Values of the schema's variables, by name. */
    readonly values: Readonly<Record<string, string>>;
    readonly children: readonly PromptNode[];
    readonly preamble: readonly Comment[];
  };
