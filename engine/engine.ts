import type { SamplingOptions } from "./sampling.js";
import { type BlockSource, type ChatTemplate, endOf, isBlockPiece, KvspliceError, type Plan, positionsOf, type Tokenizer } from "../plan/index.js";
import type { Backend } from "./backend/backend.js";
import { CachePool } from "./cache-pool.js";
import { fetchPlan, type FetchedPlan } from "./fetch.js";
import { DrawnGeneration, type GenerateOptions, type Generation } from "./generation.js";
import type { Block, Precision } from "./kv/block.js";
import type { KvForm } from "./kv/form.js";
import { Lifetime } from "./lifetime.js";
import type { ModelCard } from "./model/card.js";
import type { Language } from "./model/language.js";
import { Admission } from "./schedule/admission.js";
import { Scheduler } from "./schedule/scheduler.js";
import { Sequence } from "./sequence.js";
import type { BlockKey, BlockStore } from "./store/store.js";

export type EncodeOptions = { readonly signal?: AbortSignal };

/** Answers that run, and those that wait for a place among them. */
export type Activity = { readonly running: number; readonly queued: number };

/**
 * A loaded model: encodes blocks, and answers plans. Calls at the same time are computed together, pass by pass.
 * Several models may be loaded in one process.
 */
export interface Model extends Language, AsyncDisposable {
  /** Hash of the weights and of the graph over them: blocks of one id fit no other. */
  readonly id: string;
  readonly name: string;
  /** How the blocks that it encodes are kept. */
  readonly precision: Precision;
  /** Hash of the adapter that acts on blocks that say `adapted`; none where left out. */
  readonly encodingAdapter?: string | undefined;
  /** What of each token its blocks hold. */
  readonly form: KvForm;
  /** What the model is doing now. */
  readonly activity: Activity;
  keyOf(source: BlockSource): BlockKey;
  /** KV of a block, each token seeing those before it in the block and nothing else. */
  encode(source: BlockSource, options?: EncodeOptions): Promise<Block>;
  /** Answers a plan; drawn as the options say, or the model's `sampling`, or by greedy decoding. */
  generate(plan: Plan, options?: GenerateOptions): Generation;
  /** Logits `[vocabulary]` after the plan's last token. */
  logits(plan: Plan, options?: GenerateOptions): Promise<Float32Array>;
  /**
   * Logits `[vocabulary]` that each token of a given answer would be drawn from, with the plan and the answer's tokens
   * before it given: what a way of linking changes, answer by answer.
   */
  score(plan: Plan, answer: readonly number[], options?: GenerateOptions): Promise<Float32Array[]>;
  /** Ends all of its work with KvspliceError `closed`, waits for it, and frees what it holds. */
  close(): Promise<void>;
}

/** What an engine runs on. */
export type EngineParts = {
  readonly id: string;
  readonly name: string;
  readonly language: Language;
  readonly backend: Backend;
  readonly precision: Precision;
  readonly encodingAdapter?: string | undefined;
  keyOf(source: BlockSource): BlockKey;
};

/** A backend and a language, as a model: what answers and encodings share. */
export class Engine implements Model {
  readonly id: string;
  readonly name: string;
  readonly precision: Precision;
  readonly encodingAdapter: string | undefined;
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
  readonly card: ModelCard;
  readonly contextLength: number;
  readonly endTokens: ReadonlySet<number>;
  readonly sampling: SamplingOptions;
  readonly form: KvForm;
  readonly scheduler: Scheduler;
  readonly caches: CachePool;
  /** Of answers. */
  readonly admission: Admission;
  /** Of encodings: more at once gain nothing, and each needs a cache. */
  private readonly encodings: Admission;
  private readonly lifetime: Lifetime;
  private released: Promise<void> | undefined;

  constructor(private readonly parts: EngineParts) {
    const { backend, language } = parts;
    ({ id: this.id, name: this.name, precision: this.precision, encodingAdapter: this.encodingAdapter } = parts);
    ({ tokenizer: this.tokenizer, chat: this.chat, card: this.card, contextLength: this.contextLength, endTokens: this.endTokens, sampling: this.sampling } = language);
    this.form = backend.form;
    this.scheduler = new Scheduler(backend);
    this.caches = new CachePool(() => backend.createCache(), backend.mostSlots);
    this.admission = new Admission(backend.mostSlots);
    this.encodings = new Admission(backend.mostSlots);
    this.lifetime = new Lifetime(`${parts.name} was closed. Load it again.`);
  }

  get activity(): Activity {
    return { queued: this.admission.queued, running: this.admission.running };
  }

  keyOf(source: BlockSource): BlockKey {
    return this.parts.keyOf(source);
  }

  async encode(source: BlockSource, { signal: caller }: EncodeOptions = {}): Promise<Block> {
    return this.lifetime.run(caller, async (signal) => {
      if (source.tokens.length === 0) throw new KvspliceError("bad_argument", "A block has at least one token.");
      const after = source.after ?? [];
      const tokens = [...after, ...source.tokens];
      const positions = [...after.keys(), ...positionsOf(source, after.length)];
      this.mustFit(positions.at(-1)! + 1);
      await this.encodings.enter(async () => undefined, signal);
      const { cache } = this.caches.take(tokens.length);
      try {
        await this.scheduler.compute({ cache, tokens, positions, logits: 0, adapted: source.adapted }, signal);
        return await cache.extract(after.length, tokens.length, this.precision);
      } finally {
        this.caches.giveBack(cache);
        this.encodings.leave();
      }
    });
  }

  generate(plan: Plan, options: GenerateOptions = {}): Generation {
    return new DrawnGeneration(() => {
      const work = this.lifetime.begin(options.signal);
      try {
        return { work, tokens: new Sequence(this, plan, { ...this.sampling, ...options }, work.signal).tokens() };
      } catch (error) {
        work.done();
        throw error;
      }
    });
  }

  async logits(plan: Plan, options: GenerateOptions = {}): Promise<Float32Array> {
    return this.withSequence(plan, options, async (sequence) => (await sequence.prefill()).logits);
  }

  async score(plan: Plan, answer: readonly number[], options: GenerateOptions = {}): Promise<Float32Array[]> {
    return this.withSequence(plan, options, (sequence) => sequence.score(answer));
  }

  private withSequence<T>(plan: Plan, options: GenerateOptions, use: (sequence: Sequence) => Promise<T>): Promise<T> {
    return this.lifetime.run(options.signal, async (signal) => {
      const sequence = new Sequence(this, plan, options, signal);
      try {
        return await use(sequence);
      } finally {
        sequence.end();
      }
    });
  }

  async close(): Promise<void> {
    await this.lifetime.close();
    await this.scheduler.idle();
    await (this.released ??= this.parts.backend.close());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The KV of the plan's blocks, and of those of its kept pieces that the store has. */
  fetch(plan: Plan, store: BlockStore | undefined, signal: AbortSignal): Promise<FetchedPlan> {
    return fetchPlan(this, plan, { store, signal });
  }

  /**
   * The position after the plan's last token.
   * @throws KvspliceError `bad_argument` where it does not end with a fresh token, `too_long` beyond the context
   */
  mustHold(plan: Plan): number {
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
}
