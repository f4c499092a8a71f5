/** What each element may contain: the table that the parser follows, repeated in docs/pml.xsd for editors. */

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
  | "variable"
  | "prompt";

export type AttributeKind =
  | "name"
  | "text"
  | "condition"
  | "boolean"
  | "length"
  | "repeat"
  | "space"
  | "wrap"
  | "overflow"
  | "priority"
  | "context"
  | "parameter type"
  | "variable type";

export type ElementRule = {
  readonly attributes: Readonly<Record<string, { readonly kind: AttributeKind; readonly required?: true }>>;
  readonly children: readonly ElementName[];
  readonly text: boolean;
  /** Whether attributes with other names are values that a schema declares. */
  readonly others?: true;
};

const SPACE = { "xml:space": { kind: "space" }, wrap: { kind: "wrap" } } as const;
const message: ElementRule = {
  attributes: { open: { kind: "boolean" }, ...SPACE },
  children: ["module", "union", "parameter", "scaffold", "import", "document"],
  text: true,
};

export const SCHEMA_GRAMMAR: Readonly<Partial<Record<ElementName, ElementRule>>> = {
  schema: {
    attributes: { name: { kind: "name", required: true }, context: { kind: "context" }, ...SPACE },
    children: ["module", "union", "parameter", "scaffold", "import", "document", "variable", ...ROLES],
    text: true,
  },
  module: {
    attributes: {
      name: { kind: "name", required: true },
      src: { kind: "text" },
      cache: { kind: "boolean" },
      priority: { kind: "priority" },
      context: { kind: "context" },
      repeat: { kind: "repeat" },
      if: { kind: "condition" },
      ...SPACE,
    },
    children: ["module", "union", "parameter", "scaffold", "import", "document", ...ROLES],
    text: true,
  },
  union: { attributes: { default: { kind: "name" } }, children: ["module"], text: false },
  parameter: {
    attributes: {
      name: { kind: "name" },
      variable: { kind: "name" },
      length: { kind: "length", required: true },
      type: { kind: "parameter type" },
      default: { kind: "text" },
      placeholder: { kind: "text" },
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
  variable: {
    attributes: { name: { kind: "name", required: true }, type: { kind: "variable type" }, default: { kind: "text" } },
    children: [],
    text: false,
  },
  system: message,
  user: message,
  assistant: message,
};

const promptMessage: ElementRule = { ...message, children: ["document"] };

/** Every other element of a prompt includes the module with its name. */
export const PROMPT_GRAMMAR: Readonly<Partial<Record<ElementName, ElementRule>>> = {
  prompt: {
    attributes: { schema: { kind: "name", required: true }, ...SPACE },
    children: ["document", ...ROLES],
    text: true,
    others: true,
  },
  document: { attributes: { ref: { kind: "text", required: true } }, children: [], text: false },
  system: promptMessage,
  user: promptMessage,
  assistant: promptMessage,
};

/** Reserved words. */
export const RESERVED_NAMES: ReadonlySet<string> = new Set(["prompt", ...Object.keys(SCHEMA_GRAMMAR)]);

/** Letters, digits, `-`, `_` and `.`, starting with a letter or `_`: XML names without the colon. */
export const NAME = /^[\p{L}_][\p{L}\p{M}\p{N}_.-]*$/u;

/** How many times one module may be repeated: each repetition takes up positions. */
export const MAX_REPEAT = 1_000;

/** Positions that one parameter may reserve: more than any model's context is a typing error. */
export const MAX_PARAMETER_LENGTH = 1_000_000;

/**
 * Nesting depth of elements: every stage recurses over the tree, and a hand-written schema needs about ten. Builder
 * trees have the same limit.
 */
export const MAX_DEPTH = 100;

/** Elements of one file: each takes some hundred bytes of memory, and four bytes of markup can make one. */
export const MAX_ELEMENTS = 500_000;
