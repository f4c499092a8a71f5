import {
  type BlockSource,
  type ChatTemplate,
  endOf,
  isBlockPiece,
  KvspliceError,
  type Plan,
  positionsOf,
  type Tokenizer,
} from "../plan/index.js";
import type { Backend, BlockEncoder } from "./backend/backend.js";
import type { Encoding } from "./backend/cpu/encoding.js";
import { CachePool } from "./cache-pool.js";
import { type EncodeOptions, type FetchedPlan, fetchPlan } from "./fetch-blocks.js";
import { DrawnGeneration, type GenerateOptions, type Generation, type Scored } from "./generation.js";
import type { Block, Precision } from "./kv/block.js";
import type { KvForm } from "./kv/form.js";
import { Lifetime } from "./lifetime.js";
import type { UsedAdapter } from "./model/adapter/index.js";
import type { ModelCard } from "./model/card.js";
import type { Language } from "./model/language.js";
import type { SamplingOptions } from "./sampling.js";
import { Admission } from "./schedule/admission.js";
import { Scheduler } from "./schedule/scheduler.js";
import { Shares } from "./schedule/shares.js";
import { seenRuns } from "./seen-runs.js";
import { Sequence } from "./sequence.js";
import type { BlockKey } from "./store/store.js";
import { Underway } from "./underway.js";

/** Answers that are running, and those waiting for a place among them. */
export type Activity = { readonly running: number; readonly queued: number };

/**
 * A loaded model: encodes blocks and answers plans. Concurrent calls are computed together, pass by pass.
 * A process may load several models.
 */
export interface Model extends Language, AsyncDisposable {
  /** Hash of the weights and of the graph over them: blocks encoded under one id do not fit another. */
  readonly id: string;
  readonly name: string;
  /** How the blocks it encodes are stored. */
  readonly precision: Precision;
  /** How blocks are encoded. */
  readonly encoding: Encoding;
  /** The low-rank adapters it was loaded with. */
  readonly adapters: readonly UsedAdapter[];
  /** Hash of what acts on blocks marked `adapted`; undefined if no adapter is for encoding. */
  readonly encodingAdapter?: string | undefined;
  /** What its blocks store of each token. */
  readonly form: KvForm;
  /** What the model is doing now. */
  readonly activity: Activity;
  /** Maximum answers that it computes at the same time. */
  readonly places: number;
  /** Number of blocks worth requesting at once: several if a device encodes them together; 1 if omitted. */
  readonly encodesAtOnce?: number;
  /** What ended it unexpectedly: every call fails with this error until the model is loaded again. */
  readonly failure: KvspliceError | undefined;
  /** The key of a block's KV: a hash of the model and of everything else that the KV depends on. */
  keyOf(source: BlockSource): BlockKey;
  /** KV of a block: each token sees the tokens before it in the block and nothing else. */
  encode(source: BlockSource, options?: EncodeOptions): Promise<Block>;
  /** Answers a plan. Tokens are chosen as the options say, else by the model's `sampling`, else greedily. */
  generate(plan: Plan, options?: GenerateOptions): Generation;
  /** Logits `[vocabulary]` after the plan's last token. */
  logits(plan: Plan, options?: GenerateOptions): Promise<Float32Array>;
  /** How likely the model finds a given answer to a plan, token by token, and what the plan cost: the effect of a way of linking. */
  score(plan: Plan, answer: readonly number[], options?: GenerateOptions): Promise<Scored>;
  /** Ends all of its work with KvspliceError `closed`, waits for that, and frees its memory. */
  close(): Promise<void>;
}

/** What an engine is made of. */
export type EngineParts = {
  readonly id: string;
  readonly name: string;
  readonly language: Language;
  readonly backend: Backend;
  readonly precision: Precision;
  /** How blocks are encoded. */
  readonly encoding: Encoding;
  /** What encodes blocks if it can; the backend encodes the others, and all if omitted. */
  readonly encoder?: BlockEncoder | undefined;
  readonly adapters?: readonly UsedAdapter[];
  readonly encodingAdapter?: string | undefined;
  keyOf(source: BlockSource): BlockKey;
};

/** A backend and a language as a model; answers and encodings share it. */
export class Engine implements Model {
  readonly id: string;
  readonly name: string;
  readonly precision: Precision;
  /** How blocks are encoded. */
  readonly encoding: Encoding;
  readonly adapters: readonly UsedAdapter[];
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
  /** For answers. */
  readonly admission: Admission;
  readonly underway = new Underway();
  /** For encodings that an answer waits for, and for others: running more at once gains nothing, and each needs a cache. */
  private readonly encodings: Admission;
  private readonly encodingsForLater: Admission;
  private readonly lifetime: Lifetime;
  private released: Promise<void> | undefined;

  constructor(private readonly parts: EngineParts) {
    const { backend, language } = parts;
    ({
      id: this.id,
      name: this.name,
      precision: this.precision,
      encoding: this.encoding,
      adapters: this.adapters = [],
      encodingAdapter: this.encodingAdapter,
    } = parts);
    ({
      tokenizer: this.tokenizer,
      chat: this.chat,
      card: this.card,
      contextLength: this.contextLength,
      endTokens: this.endTokens,
      sampling: this.sampling,
    } = language);
    this.form = backend.form;
    const shares = new Shares();
    this.scheduler = new Scheduler(backend, shares);
    this.caches = new CachePool(() => backend.createCache(), backend.mostSlots);
    this.admission = new Admission(backend.mostSlots, shares);
    this.encodings = new Admission(backend.mostSlots, shares);
    this.encodingsForLater = new Admission(backend.mostSlots);
    this.lifetime = new Lifetime(`${parts.name} was closed. Load it again.`);
  }

  get activity(): Activity {
    return { queued: this.admission.queued, running: this.admission.running };
  }

  get places(): number {
    return this.parts.backend.mostSlots;
  }

  get encodesAtOnce(): number {
    return this.parts.encoder?.atOnce ?? 1;
  }

  get failure(): KvspliceError | undefined {
    return this.parts.backend.failure;
  }

  keyOf(source: BlockSource): BlockKey {
    return this.parts.keyOf(source);
  }

  async encode(source: BlockSource, { signal: caller, client, background }: EncodeOptions = {}): Promise<Block> {
    return this.lifetime.run(caller, async (signal) => {
      if (source.tokens.length === 0) throw new KvspliceError("bad_argument", "A block needs at least one token.");
      const after = source.after ?? [];
      const tokens = [...after, ...source.tokens];
      const positions = [...after.keys(), ...positionsOf(source, after.length)];
      this.mustFit(positions.at(-1)! + 1);
      const block = await this.parts.encoder?.encode(
        { tokens, positions, from: after.length },
        { precision: this.precision, signal, background, adapted: source.adapted },
      );
      if (block) return block;
      const encodings = background ? this.encodingsForLater : this.encodings;
      await encodings.enter(async () => undefined, signal, client);
      const runs = seenRuns(source);
      try {
        const { cache, pieces } = await this.caches.take(
          tokens.length,
          runs.map(({ id }) => id),
        );
        try {
          const from = pieces.at(-1) ?? 0; // what another block also saw is already there
          const apart = source.adapted || this.parts.backend.encodesApart;
          await this.scheduler.compute(
            { cache, tokens: tokens.slice(from), positions: positions.slice(from), logits: 0, adapted: source.adapted, apart },
            signal,
            { client, background },
          );
          for (const { id, end } of runs.slice(pieces.length)) this.caches.splicedPiece(cache, id, end);
          return await cache.extract(after.length, tokens.length, this.precision);
        } finally {
          this.caches.giveBack(cache);
        }
      } finally {
        encodings.leave(client);
      }
    });
  }

  generate(plan: Plan, options: GenerateOptions = {}): Generation {
    return new DrawnGeneration(() => {
      const work = this.lifetime.begin(options.signal, options.within);
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

  async score(plan: Plan, answer: readonly number[], options: GenerateOptions = {}): Promise<Scored> {
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
    await (this.released ??= this.release());
  }

  private async release(): Promise<void> {
    await this.parts.encoder?.close();
    await this.parts.backend.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The KV of the plan's blocks, and of those kept pieces that the store has. */
  fetch(
    plan: Plan,
    options: Pick<GenerateOptions, "store" | "client" | "elsewhere" | "onElsewhere" | "onRead">,
    signal: AbortSignal,
  ): Promise<FetchedPlan> {
    const { store, client, elsewhere, onElsewhere, onRead } = options;
    return fetchPlan(this, plan, { store, client, elsewhere, onElsewhere, onRead, signal });
  }

  /**
   * The position after the plan's last token.
   * @throws KvspliceError `bad_argument` if the plan does not end with a fresh token, `too_long` if it exceeds the context
   */
  mustHold(plan: Plan): number {
    const last = plan.pieces.at(-1);
    if (!last || isBlockPiece(last) || last.tokens.length === 0) {
      throw new KvspliceError("bad_argument", "A plan must end with a fresh piece of at least one token: the answer starts from it.");
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
