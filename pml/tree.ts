import type { Role } from "../plan/index.js";
import type { Origin } from "./source.js";

export type { Role };

/**
 * The trees of PML. Markup and builder make the same ones, `origin` and `written` aside.
 *
 * Text in a tree is what the model reads: the layout of markup is gone (whitespace.ts). Texts are neighbours only where
 * one of them is CDATA, and none is empty.
 */
type Written = { readonly origin?: Origin };

/** `xml:space` and `wrap` as they were written; each holds for all within until an inner element says otherwise. */
export type Spaced = { readonly space?: Space; readonly wrap?: Wrap };
/** `preserve`: the layout of the markup is text too. */
export type Space = "preserve" | "default";
/** `soft`: an author's line breaks within a paragraph are spaces. */
export type Wrap = "hard" | "soft";

export type Text = Written & {
  readonly kind: "text";
  readonly text: string;
  /** With the line breaks that a soft wrap has made spaces of. Kept for the formatter; means nothing. */
  readonly written?: string;
  /** Written as a CDATA section. Kept for the formatter; means nothing. */
  readonly cdata?: true;
};

/** Kept for the formatter; means nothing. */
export type Comment = Written & { readonly kind: "comment"; readonly text: string };

/** What a module's `src` named: put into the module's children when files are resolved. */
export type FileText = Written & { readonly kind: "file"; readonly text: string };

export type Parameter = Written & {
  readonly kind: "parameter";
  readonly name: string;
  /** Positions that it reserves, in tokens. */
  readonly length: number;
  readonly default?: string;
  /** What becomes of an argument with more tokens. */
  readonly overflow: Overflow;
};

/** `truncate-end` keeps an argument's first tokens, `truncate-start` its last. */
export type Overflow = (typeof OVERFLOWS)[number];
export const OVERFLOWS = ["error", "truncate-end", "truncate-start"] as const;

export type Module = Written &
  Spaced & {
    readonly kind: "module";
    readonly name: string;
    readonly src?: string;
    readonly cache: boolean;
    /** Of modules under a budget of tokens: the lowest is left out first; none without it. */
    readonly priority?: number;
    readonly children: readonly SchemaNode[];
  };

/** Modules that start at the same position; a prompt includes one of them at most. */
export type Union = Written & { readonly kind: "union"; readonly children: readonly (Module | Comment)[] };

/** One message of the chat template. */
export interface Message<Child> extends Written, Spaced {
  readonly kind: "message";
  readonly role: Role;
  /** Left open at its end: what follows goes on in this message. */
  readonly open: boolean;
  readonly children: readonly Child[];
}

/** Modules that are encoded together, each named by its path from where the scaffold stands. */
export type Scaffold = Written & {
  readonly kind: "scaffold";
  readonly name: string;
  readonly modules: readonly string[];
};

/** Another schema's modules. Replaced by them when files are resolved. */
export type Import = Written & { readonly kind: "import"; readonly schema: string };

/** A document of a corpus, without a fixed position. */
export type DocumentSlot = Written & { readonly kind: "document"; readonly ref: string };

export type SchemaMessage = Message<SchemaNode>;

export type SchemaNode =
  | Text
  | Comment
  | FileText
  | Parameter
  | Module
  | Union
  | SchemaMessage
  | Scaffold
  | Import
  | DocumentSlot;

export type Schema = Written &
  Spaced & {
    readonly kind: "schema";
    readonly name: string;
    readonly children: readonly SchemaNode[];
    /** Comments that stand before the element itself. */
    readonly preamble: readonly Comment[];
  };

/** A module that a prompt includes, with the arguments of its parameters. */
export type Include = Written & {
  readonly kind: "include";
  readonly name: string;
  readonly arguments: Readonly<Record<string, string>>;
  readonly children: readonly (Include | Comment)[];
};

export type PromptMessage = Message<Text | Comment | DocumentSlot>;

export type PromptNode = Text | Comment | Include | PromptMessage | DocumentSlot;

export type Prompt = Written &
  Spaced & {
    readonly kind: "prompt";
    /** Name of the schema whose modules it includes. */
    readonly schema: string;
    readonly children: readonly PromptNode[];
    readonly preamble: readonly Comment[];
  };
