import { readFile } from "node:fs/promises";
import { LRUCache } from "lru-cache";
import type { Constraint, Grammar, Language } from "../engine/index.js";
import { KvspliceError } from "../plan/index.js";
import { type GrammarSource, Llguidance, type Matcher, type Snapshot } from "./llguidance.js";
import { type Schema, schemaOf } from "./schema.js";
import { tokenBytesOf } from "./token-bytes.js";
import { Trial } from "./trial.js";

/** How long a grammar may take to compile by default. */
const COMPILE_ms = 5_000;

/** Compiled grammars to keep: clients use the same few schemas again and again. */
const KEPT = 64;

/** An engine with the grammars it has compiled. */
type Compiled = { readonly engine: Llguidance; readonly matchers: LRUCache<string, { readonly matcher: Matcher }> };

/**
 * Grammars over the vocabulary of one model. The engine reads the vocabulary when the first grammar is requested, in a
 * separate thread, which takes about a second; after that a new grammar takes milliseconds, and a known one no time.
 *
 *     const grammars = new Grammars(model);
 *     const grammar = await grammars.ofSchema({ type: "object", properties: { year: { type: "integer" } }, required: ["year"] });
 *     for await (const { text } of model.generate(plan, { grammar })) process.stdout.write(text);
 *     await grammars.close();
 */
export class Grammars implements AsyncDisposable {
  private loading: Promise<{ readonly module: WebAssembly.Module; readonly trial: Trial }> | undefined;
  private readonly passed = new LRUCache<string, Snapshot>({ max: KEPT });
  private compiled: Compiled | undefined;

  /** @param options `compile_ms`: how long a grammar may take to compile; 5,000 if omitted */
  constructor(
    private readonly language: Pick<Language, "tokenizer" | "endTokens">,
    private readonly options: { readonly compile_ms?: number } = {},
  ) {}

  /**
   * Answers that are JSON texts accepted by the schema.
   * @param schema a JSON Schema, or a schema of zod 4
   * @throws KvspliceError `bad_argument` for a keyword that is not supported (the error names it), or a schema that takes too long
   */
  async ofSchema(schema: Schema, options: { readonly signal?: AbortSignal } = {}): Promise<Grammar> {
    return this.of({ kind: "json_schema", text: JSON.stringify(schemaOf(schema)) }, options);
  }

  /** @throws KvspliceError `bad_argument` for a grammar that cannot be compiled or takes too long */
  async of(source: GrammarSource, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Grammar> {
    const { module, trial } = await (this.loading ??= this.load());
    const key = `${source.kind} ${source.text}`;
    const snapshot = this.passed.get(key) ?? (await trial.pass(source, signal));
    this.passed.set(key, snapshot);
    return { begin: () => this.begin(module, snapshot, source, key) };
  }

  /** Ends the thread that tries grammars, and frees what was compiled. Grammars returned earlier still work. */
  async close(): Promise<void> {
    const { loading } = this;
    await (await loading)?.trial.close();
    this.compiled = undefined;
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async load() {
    const module = new WebAssembly.Module(await readFile(new URL("./llguidance.wasm", import.meta.url)));
    return { module, trial: new Trial(module, await tokenBytesOf(this.language), this.options.compile_ms ?? COMPILE_ms) };
  }

  private begin(module: WebAssembly.Module, snapshot: Snapshot, { kind, text }: GrammarSource, key: string): Constraint {
    if (!this.compiled || this.compiled.engine.broken) {
      const engine = Llguidance.ofSnapshot(module, snapshot);
      this.compiled = { engine, matchers: new LRUCache({ max: KEPT, dispose: ({ matcher }) => engine.drop(matcher) }) };
    }
    const { engine, matchers } = this.compiled;
    const kept = matchers.get(key) ?? { matcher: engine.compile(kind, text) };
    matchers.set(key, kept);
    return new Walk(engine, engine.copy(kept.matcher));
  }
}

/** One answer's path through a grammar. */
class Walk implements Constraint {
  constructor(
    private readonly engine: Llguidance,
    private matcher: Matcher | undefined,
  ) {}

  allowed(mask: Uint32Array): void {
    this.step((matcher) => this.engine.mask(matcher, mask));
  }

  accept(token: number): void {
    this.step((matcher) => this.engine.accept(matcher, token));
  }

  rollback(tokens: number): void {
    if (tokens > 0) this.step((matcher) => this.engine.rollback(matcher, tokens));
  }

  get finished(): boolean {
    return this.step((matcher) => this.engine.finished(matcher));
  }

  [Symbol.dispose](): void {
    if (this.matcher !== undefined) this.engine.drop(this.matcher);
    this.matcher = undefined;
  }

  private step<T>(take: (matcher: Matcher) => T): T {
    if (this.matcher === undefined) throw new Error("A constraint was used after it was disposed of.");
    try {
      return take(this.matcher);
    } catch (cause) {
      throw new KvspliceError(
        "bad_argument",
        `The answer's grammar failed: ${(cause as Error).message.replace(/\.$/, "")}. Simplify the schema.`,
        { cause },
      );
    }
  }
}
