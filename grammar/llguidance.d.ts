/** A model's tokens, for a grammar: token i writes `bytes[ends[i - 1], ends[i])`, and the tokens in `stops` end an answer. */
export type TokenBytes = { readonly bytes: Uint8Array; readonly ends: Uint32Array; readonly stops: Uint32Array };

/** A grammar: a JSON Schema, or rules in llguidance's variant of Lark's syntax, which may contain schemas. */
export type GrammarSource = { readonly kind: "json_schema" | "lark"; readonly text: string };

/** Address of a matcher in the module's memory. */
export type Matcher = number & { readonly kind: "matcher" };

/** The state of an idle engine, from which others can start. */
export type Snapshot = { readonly memory: SharedArrayBuffer; readonly words: number; readonly maskAt: number; readonly factory: number };

/** One copy of llguidance with a vocabulary loaded. Errors are llguidance's own. */
export class Llguidance {
  private constructor();
  /** Reads a vocabulary, which takes a second for a large one. */
  static ofTokens(module: WebAssembly.Module, tokens: TokenBytes): Llguidance;
  /** Starts from another copy's memory, which takes no longer than copying it. */
  static ofSnapshot(module: WebAssembly.Module, snapshot: Snapshot): Llguidance;
  snapshot(): Snapshot;
  /** True after a trap: its data may be corrupt, and every call fails. */
  readonly broken: boolean;
  /** Words in a mask; each covers 32 tokens. */
  readonly words: number;
  /** A matcher in its initial state. */
  compile(kind: GrammarSource["kind"], text: string): Matcher;
  copy(matcher: Matcher): Matcher;
  drop(matcher: Matcher): void;
  mask(matcher: Matcher, mask: Uint32Array): void;
  accept(matcher: Matcher, token: number): void;
  rollback(matcher: Matcher, tokens: number): void;
  finished(matcher: Matcher): boolean;
}
