/** What each element may hold: the table that the parser follows, and that docs/pml.xsd says again for editors. */

export const ROLES = ["system", "user", "assistant"] as const;

export type ElementName =
  | (typeof ROLES)[number]
  | "schema"
  | "module"
  | "union"
  | "parameter"
  | "scaffold"
  | "import"
  | "document"
  | "prompt";

export type AttributeKind = "name" | "text" | "boolean" | "length" | "space" | "wrap" | "overflow" | "priority";

export type ElementRule = {
  readonly attributes: Readonly<Record<string, { readonly kind: AttributeKind; readonly required?: true }>>;
  readonly children: readonly ElementName[];
  readonly text: boolean;
};

const SPACE = { "xml:space": { kind: "space" }, wrap: { kind: "wrap" } } as const;
const message: ElementRule = {
  attributes: { open: { kind: "boolean" }, ...SPACE },
  children: ["module", "union", "parameter", "scaffold", "import", "document"],
  text: true,
};

export const SCHEMA_GRAMMAR: Readonly<Partial<Record<ElementName, ElementRule>>> = {
  schema: {
    attributes: { name: { kind: "name", required: true }, ...SPACE },
    children: ["module", "union", "scaffold", "import", "document", ...ROLES],
    text: true,
  },
  module: {
    attributes: {
      name: { kind: "name", required: true },
      src: { kind: "text" },
      cache: { kind: "boolean" },
      priority: { kind: "priority" },
      ...SPACE,
    },
    children: ["module", "union", "parameter", "scaffold", "import", "document", ...ROLES],
    text: true,
  },
  union: { attributes: {}, children: ["module"], text: false },
  parameter: {
    attributes: {
      name: { kind: "name", required: true },
      length: { kind: "length", required: true },
      default: { kind: "text" },
      overflow: { kind: "overflow" },
    },
    children: [],
    text: false,
  },
  scaffold: {
    attributes: { name: { kind: "name", required: true }, modules: { kind: "text", required: true } },
    children: [],
    text: false,
  },
  import: { attributes: { schema: { kind: "text", required: true } }, children: [], text: false },
  document: { attributes: { ref: { kind: "text", required: true } }, children: [], text: false },
  system: message,
  user: message,
  assistant: message,
};

const promptMessage: ElementRule = { ...message, children: ["document"] };

/** Every other element of a prompt includes the module of its name. */
export const PROMPT_GRAMMAR: Readonly<Partial<Record<ElementName, ElementRule>>> = {
  prompt: {
    attributes: { schema: { kind: "name", required: true }, ...SPACE },
    children: ["document", ...ROLES],
    text: true,
  },
  document: { attributes: { ref: { kind: "text", required: true } }, children: [], text: false },
  system: promptMessage,
  user: promptMessage,
  assistant: promptMessage,
};

/** The language's own words, which name nothing else. */
export const RESERVED_NAMES: ReadonlySet<string> = new Set(["prompt", ...Object.keys(SCHEMA_GRAMMAR)]);

/** Letters, digits, `-`, `_` and `.`, starting with a letter or `_`: XML's names, but for the colon. */
export const NAME = /^[\p{L}_][\p{L}\p{M}\p{N}_.-]*$/u;

/** Positions that one parameter may reserve: more than any model's context is a slip of the keyboard. */
export const MAX_PARAMETER_LENGTH = 1_000_000;

/**
 * Elements within elements: every stage walks the tree by recursion, and a person's schema needs some ten. Builder
 * trees are held to it too.
 */
export const MAX_DEPTH = 100;

/** Elements of one file: each takes some hundred bytes of memory, where four bytes of markup can make one. */
export const MAX_ELEMENTS = 500_000;
