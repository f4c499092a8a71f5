import { createHash } from "node:crypto";
import { basename } from "node:path";
import type { ModelCard } from "./model/card.js";
import { type BlockSource, cancelledError, type ChatTemplate, endOf, isBlockPiece, KvspliceError, type Piece, type Plan, positionsOf, type Tokenizer, tokensOf } from "../plan/index.js";
import { fetchBlocks } from "./fetch.js";
import type { GeneratedToken, Generation, GenerationStats } from "./generation.js";
import { DEFAULT_ACTIVATIONS, type Activations } from "./backend/cpu/linear.js";
import { PassRunner } from "./backend/cpu/pass.js";
import { BATCH_SLOTS, defaultCacheDir, graphId, openSessions } from "./backend/cpu/session.js";
import { DEFAULT_PRECISION, type Block, type Precision } from "./kv/block.js";
import { KvCache } from "./backend/cpu/cache.js";
import { CachePool } from "./backend/cpu/pool.js";
import { RotaryTable } from "./kv/rotary.js";
import { defaultModelPath, languageOf, type Language } from "./model/language.js";
import { PromptLookup } from "./lookup.js";
import { splicePlan, type CachedPiece, type KeptRows, type Prompt } from "./prompt.js";
import { Admission } from "./schedule/admission.js";
import { Scheduler } from "./schedule/scheduler.js";
import { createSampler, logprobsOf, type Sampler, type SamplingOptions } from "./sampling.js";
import type { BlockKey, BlockStore } from "./store/store.js";
import { TextStream } from "./text-stream.js";
import { readSpec } from "./model/arch/index.js";
import type { ModelSpec } from "./model/spec.js";
import { Embedding } from "./backend/cpu/embedding.js";
import type { ModelFile } from "./model/files/model-file.js";
import { openModelFile, type Quantization } from "./model/files/open.js";

export type LoadOptions = {
  /** A GGUF file, any part of a split one, or a Hugging Face folder; the model that kvsplice carries when left out. */
  readonly path?: string;
  /** How the matrices of a Hugging Face folder are kept; 8 bits (`q8`) when left out. A GGUF file stays as it is. */
  readonly quantize?: Quantization | undefined;
  /** Positions that the model is used with; as many as it was trained on when left out. */
  readonly contextLength?: number | undefined;
  /** `int8` (default) quantises activations on the way into each linear layer; `float32` does not, and is slower. */
  readonly activations?: Activations;
  /** How blocks are kept, and a part of their key; `int8` when left out. docs/precision.md says what each costs. */
  readonly precision?: Precision;
  /** Threads of one pass; all cores when left out. */
  readonly threads?: number;
  /** Where the built graph is kept; the user's cache folder when left out. */
  readonly cacheDir?: string;
};

export type GenerateOptions = SamplingOptions & {
  /** Where blocks are looked up, and put when they were missing. Without one, every block is encoded on the way. */
  readonly store?: BlockStore;
  /** The model card's `maxAnswerTokens` when left out. */
  readonly maxNewTokens?: number;
  /** Texts that end the answer; they are not part of it. */
  readonly stop?: readonly string[];
  /**
   * Guesses up to so many tokens at a time from what the prompt says after the answer's last ones, and computes them
   * with it: each that the model chooses as well takes no pass of its own. The answer is the same; 0 (none) when left out.
   */
  readonly promptLookup?: number;
  /** Tells each token's log probability, and those of as many likeliest tokens in its place. */
  readonly logprobs?: number;
  /**
   * Names the KV of the answer's tokens, which is then put into the store as that of a `keep` piece; called once, when
   * the answer has ended, with the tokens whose KV exists (the last one's may not).
   */
  readonly keepAnswer?: (tokens: readonly number[]) => BlockKey | undefined;
  /** Ends the answer with KvspliceError `cancelled`, at the latest after the running pass. */
  readonly signal?: AbortSignal;
};

export type EncodeOptions = { readonly signal?: AbortSignal };

/** Answers that run, and those that wait for a place among them. */
export type Activity = { readonly running: number; readonly queued: number };

/**
 * A loaded model: encodes blocks, and answers plans. Calls at the same time are computed together, pass by pass.
 * Several models may be loaded in one process.
 */
export interface Model extends Language {
  /** Hash of the weights and of the graph over them: blocks of one id fit no other. */
  readonly id: string;
  readonly name: string;
  /** How the blocks that it encodes are kept. */
  readonly precision: Precision;
  /** What the model is doing now. */
  readonly activity: Activity;
  keyOf(source: BlockSource): BlockKey;
  /** KV of a block, each token seeing those before it in the block and nothing else. */
  encode(source: BlockSource, options?: EncodeOptions): Promise<Block>;
  /** Answers a plan; by greedy decoding unless a temperature is set. */
  generate(plan: Plan, options?: GenerateOptions): Generation;
  /** Logits `[vocabulary]` after the plan's last token. */
  logits(plan: Plan, options?: GenerateOptions): Promise<Float32Array>;
  close(): Promise<void>;
}

/** How blocks are laid out and encoded; a part of their key. */
const BLOCK_VERSION = 2;

/**
 * Loads a model.
 * @throws KvspliceError `bad_model` if the file cannot be read or is not of a supported kind.
 */
export async function loadModel(options: LoadOptions = {}): Promise<Model> {
  const path = options.path ?? (await defaultModelPath());
  const file = openModelFile(path, options);
  try {
    return await modelOf(path, file, options);
  } catch (error) {
    file.close();
    throw error;
  }
}

async function modelOf(path: string, file: ModelFile, options: LoadOptions): Promise<Model> {
  const spec = readSpec(file, options);
  const { tokenizer, chat, card, endTokens } = await languageOf(path, file.metadata);
  const activations = options.activations ?? DEFAULT_ACTIVATIONS;
  const id = graphId(await file.contentHash(), spec, activations);
  const rotaries = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
  const sessions = await openSessions(id, file, spec, {
    cacheDir: options.cacheDir ?? defaultCacheDir(),
    activations,
    ...(options.threads !== undefined && { threads: options.threads }),
  });
  const runner = new PassRunner(sessions, spec, rotaries, new Embedding(file));
  const release = async () => {
    await sessions.close();
    file.close();
  };
  return new LoadedModel(id, basename(path, ".gguf"), tokenizer, chat, card, options.precision ?? DEFAULT_PRECISION, spec, rotaries, runner, endTokens, release);
}

class LoadedModel implements Model {
  private readonly scheduler: Scheduler;
  private readonly admission = new Admission(BATCH_SLOTS);
  /** More at once gain nothing, and each needs a cache. */
  private readonly encodings = new Admission(BATCH_SLOTS);
  private readonly caches: CachePool;
  private closed = false;

  constructor(
    readonly id: string,
    readonly name: string,
    readonly tokenizer: Tokenizer,
    readonly chat: ChatTemplate,
    readonly card: ModelCard,
    readonly precision: Precision,
    private readonly spec: ModelSpec,
    rotaries: readonly RotaryTable[],
    runner: PassRunner,
    readonly endTokens: ReadonlySet<number>,
    private readonly release: () => Promise<void>,
  ) {
    this.scheduler = new Scheduler(runner);
    this.caches = new CachePool(() => new KvCache(runner.form, rotaries), BATCH_SLOTS);
  }

  get contextLength(): number {
    return this.spec.contextLength;
  }

  get activity(): Activity {
    return { queued: this.admission.queued, running: this.admission.running };
  }

  keyOf(source: BlockSource): BlockKey {
    const hash = createHash("sha256").update(`${this.id} ${BLOCK_VERSION} ${this.precision}\n`).update(Int32Array.from(source.tokens));
    if (source.offsets) hash.update("offsets").update(Int32Array.from(source.offsets));
    return hash.digest("hex");
  }

  async encode(source: BlockSource, { signal }: EncodeOptions = {}): Promise<Block> {
    this.mustBeOpen();
    throwIfCancelled(signal);
    const { tokens } = source;
    if (tokens.length === 0) throw new KvspliceError("bad_argument", "A block has at least one token.");
    const positions = positionsOf(source, 0);
    this.mustFit(positions.at(-1)! + 1);
    await this.encodings.enter(async () => undefined, signal);
    const { cache } = this.caches.take(tokens.length);
    try {
      await this.scheduler.compute({ cache, tokens, positions: [...positions], logits: 0 }, signal);
      return cache.extract(0, tokens.length, this.precision);
    } finally {
      this.caches.giveBack(cache);
      this.encodings.leave();
    }
  }

  generate(plan: Plan, options: GenerateOptions = {}): Generation {
    let settle!: { resolve(stats: GenerationStats): void; reject(error: unknown): void };
    const stats = new Promise<GenerationStats>((resolve, reject) => (settle = { resolve, reject }));
    stats.catch(() => undefined); // whoever iterates sees the error there
    const tokens = this.answer(plan, options, settle.resolve);
    return {
      stats,
      async *[Symbol.asyncIterator]() {
        try {
          yield* tokens;
        } catch (error) {
          settle.reject(error);
          throw error;
        } finally {
          settle.reject(new KvspliceError("cancelled", "The answer was left before its end."));
        }
      },
    };
  }

  async logits(plan: Plan, options: GenerateOptions = {}): Promise<Float32Array> {
    const prefilled = await this.prefill(plan, options);
    const logits = prefilled.logits.slice();
    this.end(prefilled);
    return logits;
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.scheduler.idle();
    await this.release();
  }

  private async *answer(plan: Plan, options: GenerateOptions, done: (stats: GenerationStats) => void): AsyncGenerator<GeneratedToken> {
    const start = performance.now();
    const { signal } = options;
    const sample = createSampler(options);
    const lookup = options.promptLookup ? new PromptLookup(tokensOf(plan), options.promptLookup) : undefined;
    const prefilled = await this.prefill(plan, options);
    try {
      const first = performance.now();
      const limit = this.limitOf(options);
      const text = new TextStream(this.tokenizer, [...this.chat.stop, ...(options.stop ?? [])], this.chat.thought);
      const ids: number[] = [];
      const { prompt, end } = prefilled;
      let chosen = this.choose(prefilled.logits, [], sample, options);
      let position = end;
      let [drafted, accepted] = [0, 0];
      let finish: GenerationStats["finish"] | undefined = limit < 1 ? "length" : undefined;
      let lastToken = first;
      for (;;) {
        for (const token of chosen) {
          if (this.endTokens.has(token.id)) finish ??= "end";
          if (finish) break;
          lastToken = performance.now();
          ids.push(token.id);
          lookup?.push(token.id);
          yield { ...token, text: text.push(token.id) };
          if (text.stopped) finish = "stop";
          else if (ids.length === limit) finish = "length";
        }
        const room = Math.min(limit - ids.length, this.contextLength - position) - 1;
        if (finish || room < 0) break;
        throwIfCancelled(signal);
        const guess = lookup?.guess().slice(0, room) ?? [];
        const tokens = [ids.at(-1)!, ...guess];
        const { cache } = prompt;
        const rows = cache.length;
        const logits = await this.scheduler.compute({ cache, tokens, positions: tokens.map((_, i) => position + i), logits: tokens.length }, signal);
        chosen = this.choose(logits, guess, sample, options);
        // The rows of guesses that were not chosen are written over.
        cache.truncate(rows + chosen.length);
        position += chosen.length;
        drafted += guess.length;
        accepted += chosen.length - 1;
      }
      const rest = text.end();
      if (rest) yield { id: -1, text: rest };
      const warnings = [...prefilled.warnings, ...(await this.keep(prefilled, ids.slice(0, position - end), options))];
      done({
        queue_ms: prefilled.queue_ms,
        fetch_ms: prefilled.fetch_ms,
        splice_ms: prefilled.splice_ms,
        first_token_ms: first - start,
        per_token_ms: ids.length > 1 ? (lastToken - first) / (ids.length - 1) : 0,
        total_ms: performance.now() - start,
        cached_tokens: prompt.spliced,
        computed_tokens: prompt.tokens.length,
        generated_tokens: ids.length,
        drafted_tokens: drafted,
        accepted_tokens: accepted,
        finish: finish ?? "length",
        encoded_tokens: prefilled.encoded,
        warnings,
      });
    } finally {
      this.end(prefilled);
    }
  }

  /** Waits for a place among the running answers, fetches and splices the plan's blocks, and computes its fresh tokens. */
  private async prefill(plan: Plan, options: GenerateOptions): Promise<Prefilled> {
    this.mustBeOpen();
    const end = this.check(plan);
    const { signal } = options;
    throwIfCancelled(signal);
    const start = performance.now();
    let fetching: Promise<FetchedPlan> | undefined;
    const fetch = () => (fetching ??= this.fetch(plan, options));
    await this.admission.enter(fetch, signal);
    let prompt: Prompt | undefined;
    try {
      const entered = performance.now();
      const { cached, encoded, warnings } = await fetch();
      throwIfCancelled(signal);
      const fetched = performance.now();
      prompt = splicePlan(plan, cached, this.caches, Math.min(this.limitOf(options), this.contextLength - end));
      const spliced = performance.now();
      const logits = await this.scheduler.compute({ ...prompt, logits: 1 }, signal);
      return { prompt, logits, end, encoded, warnings, queue_ms: entered - start, fetch_ms: fetched - entered, splice_ms: spliced - fetched };
    } catch (error) {
      if (prompt) this.caches.giveBack(prompt.cache);
      this.admission.leave();
      throw error;
    }
  }

  private end({ prompt }: Prefilled): void {
    this.caches.giveBack(prompt.cache);
    this.admission.leave();
  }

  /** The KV of the plan's blocks, and of those of its kept pieces that the store has. */
  private async fetch(plan: Plan, options: GenerateOptions): Promise<FetchedPlan> {
    const blockPieces = plan.pieces.filter(isBlockPiece);
    // The last piece is computed in any case: the answer starts from its last token.
    const keptPieces = plan.pieces.slice(0, -1).flatMap((piece) => (isBlockPiece(piece) || piece.keep === undefined ? [] : [{ piece, key: piece.keep }]));
    const sources = blockPieces.map(({ block }) => block);
    const [fetched, kept] = await Promise.all([
      fetchBlocks(this, sources, options),
      Promise.all(keptPieces.map(async ({ piece, key }) => ({ piece, key, block: await options.store?.get(key) }))),
    ]);
    const found = new Map<Piece, CachedPiece>(blockPieces.map((piece) => [piece, { key: fetched.keys.get(piece.block)!, block: fetched.blocks.get(piece.block)! }]));
    for (const { piece, key, block } of kept) {
      if (block?.tokens === piece.tokens.length) found.set(piece, { key, block });
    }
    const cached = new Map(plan.pieces.flatMap((piece) => (found.has(piece) ? [[piece, found.get(piece)!] as const] : [])));
    return { cached, encoded: fetched.encoded, warnings: fetched.warnings };
  }

  /** Puts the KV of the prompt's computed pieces and of the answer into the store, where it has a name; returns warnings. */
  private async keep({ prompt }: Prefilled, answer: readonly number[], { keepAnswer, store }: GenerateOptions): Promise<string[]> {
    const key = answer.length > 0 ? keepAnswer?.(answer) : undefined;
    const row = prompt.spliced + prompt.tokens.length;
    const kept: readonly KeptRows[] = key === undefined ? prompt.unkept : [...prompt.unkept, { key, row, tokens: answer.length }];
    const warnings: string[] = [];
    for (const { key, row, tokens } of kept) {
      const block = prompt.cache.extract(row, row + tokens, this.precision);
      await store?.put(key, block).catch((error: unknown) => {
        warnings.push(`The KV of ${tokens} tokens could not be stored. ${error instanceof Error ? error.message : String(error)}`);
      });
    }
    return warnings;
  }

  private limitOf({ maxNewTokens }: GenerateOptions): number {
    return maxNewTokens ?? this.card.maxAnswerTokens;
  }

  /** The token after a pass, and those before it that were guessed right; `logits` is `[guess.length + 1, vocabulary]`. */
  private choose(logits: Float32Array, guess: readonly number[], sample: Sampler, { logprobs }: GenerateOptions): Chosen[] {
    const { vocabulary } = this.spec;
    const chosen: Chosen[] = [];
    for (let row = 0; ; row++) {
      const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
      const id = sample(own);
      chosen.push({ id, ...(logprobs !== undefined && this.likelihood(own, id, logprobs)) });
      if (id !== guess[row] || this.endTokens.has(id)) return chosen;
    }
  }

  private likelihood(logits: Float32Array, id: number, top: number): Pick<GeneratedToken, "logprob" | "top"> {
    const found = logprobsOf(logits, id, top);
    return { logprob: found.logprob, top: found.top.map((each) => ({ ...each, text: this.tokenizer.decode([each.id]) })) };
  }

  /** The position after the plan's last token, once the plan is found sound. */
  private check(plan: Plan): number {
    const last = plan.pieces.at(-1);
    if (!last || isBlockPiece(last) || last.tokens.length === 0) {
      throw new KvspliceError("bad_argument", "A plan ends with a fresh piece of at least one token: the answer starts from it.");
    }
    for (const piece of plan.pieces) this.mustFit(endOf(piece));
    return endOf(last);
  }

  private mustFit(positions: number): void {
    if (positions > this.contextLength) {
      throw new KvspliceError(
        "too_long",
        `The prompt takes ${positions} positions; ${this.name} has ${this.contextLength}. Use fewer or shorter documents, or a shorter question.`,
      );
    }
  }

  private mustBeOpen(): void {
    if (this.closed) throw new KvspliceError("bad_argument", "The model is closed. Load it again.");
  }
}

/** A token of the answer. */
type Chosen = Omit<GeneratedToken, "text">;

type FetchedPlan = { readonly cached: ReadonlyMap<Piece, CachedPiece>; readonly encoded: number; readonly warnings: readonly string[] };

/** A prompt whose fresh tokens are computed: an answer can begin. */
type Prefilled = Omit<FetchedPlan, "cached"> & {
  readonly prompt: Prompt;
  readonly logits: Float32Array;
  /** The position of the answer's first token. */
  readonly end: number;
  readonly queue_ms: number;
  readonly fetch_ms: number;
  readonly splice_ms: number;
};

function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelledError(signal);
}
