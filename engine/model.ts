import { createHash } from "node:crypto";
import { basename } from "node:path";
import type { ModelCard } from "./card.js";
import type { ChatTemplate } from "./chat.js";
import { KvspliceError } from "./error.js";
import { fetchBlocks } from "./fetch.js";
import type { GeneratedToken, Generation, GenerationStats } from "./generation.js";
import type { Activations } from "./graph/linear.js";
import { PassRunner } from "./graph/pass.js";
import { defaultCacheDir, graphId, openSession } from "./graph/session.js";
import { allocateBlock, type Block, type Float32Block, type Precision } from "./kv/block.js";
import { keptRuns, KvCache } from "./kv/cache.js";
import { quantize } from "./kv/quantize.js";
import { createRotaryTable, type RotaryTable } from "./kv/rotary.js";
import { defaultModelPath, languageOf, type Language } from "./language.js";
import { isBlockPiece, type BlockPiece, type BlockSource, type Plan } from "./plan.js";
import { createSampler, logprobsOf, type SamplingOptions } from "./sampling.js";
import type { BlockKey, BlockStore } from "./store/store.js";
import { TextStream } from "./text-stream.js";
import type { Tokenizer } from "./tokenizer.js";
import { readConfig, type ModelConfig } from "./weights/config.js";
import { createEmbedding } from "./weights/embedding.js";
import { dequantize } from "./weights/quant.js";
import { readGguf } from "./weights/gguf.js";

export type LoadOptions = {
  /** A GGUF file of a Llama-shaped model; the model that kvsplice carries when left out. */
  readonly path?: string;
  /** `int8` (default) quantises activations on the way into each linear layer; `float32` does not, and is slower. */
  readonly activations?: Activations;
  /** How blocks are kept; a part of their key. */
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

/** A loaded model: encodes blocks, and answers plans. Several may be loaded in one process. */
export interface Model extends Language {
  /** Hash of the weights and of the graph over them: blocks of one id fit no other. */
  readonly id: string;
  readonly name: string;
  /** How the blocks that it encodes are kept. */
  readonly precision: Precision;
  keyOf(source: BlockSource): BlockKey;
  /** KV of a block, each token seeing those before it in the block and nothing else. */
  encode(source: BlockSource, options?: EncodeOptions): Promise<Block>;
  /** Answers a plan by greedy decoding. */
  generate(plan: Plan, options?: GenerateOptions): Generation;
  /** Logits `[vocabulary]` after the plan's last token. */
  logits(plan: Plan, options?: GenerateOptions): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Fresh tokens of one pass: long prompts are cut, because the scores of all pairs exist at once. */
const PASS_TOKENS = 256;

/** How blocks are laid out and encoded; a part of their key. */
const BLOCK_VERSION = 2;

const DEFAULT_PRECISION: Precision = "float32";

/**
 * Loads a model.
 * @throws KvspliceError `bad_model` if the file cannot be read or is not of a supported kind.
 */
export async function loadModel(options: LoadOptions = {}): Promise<Model> {
  const path = options.path ?? (await defaultModelPath());
  const file = await readGguf(path);
  const config = readConfig(file);
  const { tokenizer, chat, card } = await languageOf(path, file.metadata);
  const activations = options.activations ?? "int8";
  const id = graphId(file.contentHash, activations);
  const factors = file.has("rope_freqs.weight") ? dequantize(file.tensor("rope_freqs.weight")) : undefined;
  const table = createRotaryTable(config.contextLength, config.headSize, config.rotaryBase, factors);
  const session = await openSession(id, file, config, table, {
    cacheDir: options.cacheDir ?? defaultCacheDir(),
    activations,
    ...(options.threads !== undefined && { threads: options.threads }),
  });
  const embedding = createEmbedding(file.tensor("token_embd.weight"));
  const endTokens = new Set([Number(file.metadata["tokenizer.ggml.eos_token_id"])]);
  const runner = new PassRunner(session, config, embedding);
  return new LoadedModel(id, basename(path, ".gguf"), tokenizer, chat, card, options.precision ?? DEFAULT_PRECISION, config, table, runner, endTokens, () => session.release());
}

class LoadedModel implements Model {
  private readonly idleCaches: KvCache[] = [];
  private closed = false;

  constructor(
    readonly id: string,
    readonly name: string,
    readonly tokenizer: Tokenizer,
    readonly chat: ChatTemplate,
    readonly card: ModelCard,
    readonly precision: Precision,
    private readonly config: ModelConfig,
    private readonly table: RotaryTable,
    private readonly runner: PassRunner,
    private readonly endTokens: ReadonlySet<number>,
    private readonly release: () => Promise<void>,
  ) {}

  get contextLength(): number {
    return this.config.contextLength;
  }

  keyOf(source: BlockSource): BlockKey {
    const hash = createHash("sha256").update(`${this.id} ${BLOCK_VERSION} ${this.precision}\n`).update(Int32Array.from(source.tokens));
    if (source.offsets) hash.update("offsets").update(Int32Array.from(source.offsets));
    return hash.digest("hex");
  }

  async encode(source: BlockSource, options: EncodeOptions = {}): Promise<Block> {
    this.mustBeOpen();
    const { tokens } = source;
    const offset = offsetsOf(source);
    if (tokens.length === 0) throw new KvspliceError("bad_argument", "A block has at least one token.");
    this.mustFit(offset(tokens.length - 1) + 1);
    const block = allocateBlock(this.runner.shape, tokens.length);
    const { width } = this.runner.shape;
    const cache = tokens.length > PASS_TOKENS ? this.takeCache() : undefined;
    for (let start = 0; start < tokens.length; start += PASS_TOKENS) {
      throwIfCancelled(options.signal);
      const end = Math.min(start + PASS_TOKENS, tokens.length);
      await this.runner.run({
        tokens: tokens.slice(start, end),
        positions: Array.from({ length: end - start }, (_, i) => offset(start + i)),
        pastLength: start,
        past: (layer) => cache!.past(layer),
        into: {
          rotated: false,
          layer(layer) {
            const from = (layer * tokens.length + start) * width;
            const to = (layer * tokens.length + end) * width;
            return { k: block.k.subarray(from, to), v: block.v.subarray(from, to) };
          },
        },
        logits: false,
      });
      // The rows encoded so far are the next pass's past.
      if (end < tokens.length) cache!.splice(block, positionsOf(source, 0), [[0, start], [end, tokens.length]]);
    }
    if (cache) this.idleCaches.push(cache);
    return this.kept(block);
  }

  generate(plan: Plan, options: GenerateOptions = {}): Generation {
    let settle!: { resolve(stats: GenerationStats): void; reject(error: unknown): void };
    const stats = new Promise<GenerationStats>((resolve, reject) => (settle = { resolve, reject }));
    stats.catch(() => undefined); // whoever iterates sees the error there
    const tokens = this.decode(plan, options, settle.resolve);
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
    const cache = this.takeCache();
    const { logits } = await this.prefill(plan, cache, options);
    this.idleCaches.push(cache);
    return logits.slice();
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.runner.idle();
    await this.release();
  }

  private async *decode(plan: Plan, options: GenerateOptions, done: (stats: GenerationStats) => void): AsyncGenerator<GeneratedToken> {
    const start = performance.now();
    const sample = createSampler(options);
    const cache = this.takeCache();
    try {
      const prefilled = await this.prefill(plan, cache, options);
      const first = performance.now();
      const limit = options.maxNewTokens ?? this.card.maxAnswerTokens;
      const text = new TextStream(this.tokenizer, options.stop);
      let { logits, position } = prefilled;
      let finish: GenerationStats["finish"] = "length";
      const ids: number[] = [];
      let lastToken = first;
      while (ids.length < limit) {
        const id = sample(logits);
        lastToken = performance.now();
        if (this.endTokens.has(id)) {
          finish = "end";
          break;
        }
        ids.push(id);
        const likelihood = options.logprobs === undefined ? undefined : this.likelihood(logits, id, options.logprobs);
        yield { id, text: text.push(id), ...likelihood };
        if (text.stopped) {
          finish = "stop";
          break;
        }
        if (ids.length === limit || position >= this.contextLength) break;
        throwIfCancelled(options.signal);
        logits = await this.step([id], [position++], cache, undefined, true);
      }
      const rest = text.end();
      if (rest) yield { id: -1, text: rest };
      const answered = { row: prefilled.cached + prefilled.computed, tokens: position - prefilled.position, at: prefilled.position };
      const answerKey = options.keepAnswer?.(ids.slice(0, answered.tokens));
      const unkept = answerKey === undefined || answered.tokens === 0 ? prefilled.unkept : [...prefilled.unkept, { key: answerKey, ...answered }];
      await this.keep(unkept, cache, options.store, prefilled.warnings);
      done({
        queue_ms: 0,
        fetch_ms: prefilled.fetch_ms,
        splice_ms: prefilled.splice_ms,
        first_token_ms: first - start,
        per_token_ms: ids.length > 1 ? (lastToken - first) / (ids.length - 1) : 0,
        total_ms: performance.now() - start,
        cached_tokens: prefilled.cached,
        computed_tokens: prefilled.computed,
        generated_tokens: ids.length,
        finish,
        encoded_tokens: prefilled.encoded,
        warnings: prefilled.warnings,
      });
    } finally {
      this.idleCaches.push(cache);
    }
  }

  /** The block as it is kept. */
  private kept(block: Float32Block): Block {
    return quantize(block, this.precision, this.config.headSize);
  }

  /** Puts the KV of computed rows into the store. */
  private async keep(rows: readonly KeptRows[], cache: KvCache, store: BlockStore | undefined, warnings: string[]): Promise<void> {
    for (const { key, row, tokens, at } of rows) {
      const block = this.kept(cache.extract(row, row + tokens, Int32Array.from({ length: tokens }, (_, i) => at + i)));
      await store?.put(key, block).catch((error: unknown) => {
        warnings.push(`The KV of ${tokens} tokens could not be stored. ${error instanceof Error ? error.message : String(error)}`);
      });
    }
  }

  private likelihood(logits: Float32Array, id: number, top: number): Pick<GeneratedToken, "logprob" | "top"> {
    const found = logprobsOf(logits, id, top);
    return { logprob: found.logprob, top: found.top.map((each) => ({ ...each, text: this.tokenizer.decode([each.id]) })) };
  }

  /** Fetches and splices the plan's blocks, then computes its fresh tokens. */
  private async prefill(plan: Plan, cache: KvCache, options: GenerateOptions) {
    this.mustBeOpen();
    const end = this.check(plan);
    const start = performance.now();
    const sources = plan.pieces.filter(isBlockPiece).map(({ block }) => block);
    throwIfCancelled(options.signal);
    const [{ blocks, encoded, warnings }, kept] = await Promise.all([fetchBlocks(this, sources, options), fetchKept(plan, options.store)]);
    const fetched = performance.now();

    const tokens: number[] = [];
    const positions: number[] = [];
    const counts: number[] = [];
    const unkept: KeptRows[] = [];
    cache.reserve(plan.pieces.reduce((sum, piece) => sum + (isBlockPiece(piece) ? piece.block.tokens.length : piece.tokens.length), 0));
    for (const piece of plan.pieces) {
      if (isBlockPiece(piece)) {
        cache.splice(blocks.get(piece.block)!, positionsOf(piece.block, piece.at), piece.omit);
      } else if (piece.keep !== undefined && kept.has(piece.keep)) {
        cache.splice(kept.get(piece.keep)!, positionsOf(piece, piece.at));
      } else {
        if (piece.keep !== undefined) unkept.push({ key: piece.keep, row: tokens.length, tokens: piece.tokens.length, at: piece.at });
        piece.tokens.forEach((token, i) => {
          tokens.push(token);
          positions.push(piece.at + i);
          counts.push(cache.length);
        });
      }
    }
    const spliced = performance.now();

    const cached = cache.length;
    const inOrder = counts.every((count) => count === cached);
    let logits!: Float32Array;
    for (let from = 0; from < tokens.length; from += PASS_TOKENS) {
      throwIfCancelled(options.signal);
      const to = Math.min(from + PASS_TOKENS, tokens.length);
      const visible = inOrder ? undefined : { counts: counts.slice(from, to), shared: cached };
      logits = await this.step(tokens.slice(from, to), positions.slice(from, to), cache, visible, to === tokens.length);
    }
    // Computed rows lie behind the spliced ones.
    const computedRows = unkept.map((rows) => ({ ...rows, row: cached + rows.row }));
    return { logits, position: end, cached, computed: tokens.length, unkept: computedRows, encoded, warnings: [...warnings], fetch_ms: fetched - start, splice_ms: spliced - fetched };
  }

  /** One pass whose KV joins the cache. */
  private async step(
    tokens: readonly number[],
    positions: readonly number[],
    cache: KvCache,
    visible: { counts: readonly number[]; shared: number } | undefined,
    logits: boolean,
  ): Promise<Float32Array> {
    cache.reserve(cache.length + tokens.length);
    const result = await this.runner.run({
      tokens,
      positions,
      pastLength: cache.length,
      past: (layer) => cache.past(layer),
      ...(visible && { visible }),
      into: { rotated: true, layer: (layer) => cache.next(layer, tokens.length) },
      logits,
    });
    cache.length += tokens.length;
    return result;
  }

  /** The position after the plan's last token, once the plan is found sound. */
  private check(plan: Plan): number {
    const last = plan.pieces.at(-1);
    if (!last || isBlockPiece(last) || last.tokens.length === 0) {
      throw new KvspliceError("bad_argument", "A plan ends with a fresh piece of at least one token: the answer starts from it.");
    }
    for (const piece of plan.pieces) this.mustFit(isBlockPiece(piece) ? endOf(piece) : piece.at + piece.tokens.length);
    return last.at + last.tokens.length;
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

  private takeCache(): KvCache {
    const cache = this.idleCaches.pop() ?? new KvCache(this.runner.shape, this.table);
    cache.length = 0;
    return cache;
  }
}

/** Positions of a block's tokens, laid at a place. */
function positionsOf({ tokens, offsets }: BlockSource, at: number): Int32Array {
  return Int32Array.from({ length: tokens.length }, (_, i) => at + (offsets?.[i] ?? i));
}

function offsetsOf(source: BlockSource): (token: number) => number {
  const { offsets } = source;
  return offsets ? (token) => offsets[token]! : (token) => token;
}

function endOf(piece: BlockPiece): number {
  const { tokens } = piece.block;
  const last = keptRuns(tokens.length, piece.omit ?? []).at(-1)?.[1] ?? 0;
  return last === 0 ? piece.at : piece.at + offsetsOf(piece.block)(last - 1) + 1;
}

/** Computed rows of a cache that are to be kept under a key. */
type KeptRows = { readonly key: BlockKey; readonly row: number; readonly tokens: number; readonly at: number };

/** KV of the plan's kept pieces that the store has. */
async function fetchKept(plan: Plan, store: BlockStore | undefined): Promise<ReadonlyMap<BlockKey, Block>> {
  const wanted = plan.pieces.flatMap((piece) => (isBlockPiece(piece) || piece.keep === undefined ? [] : [{ key: piece.keep, tokens: piece.tokens.length }]));
  // The last piece is computed in any case: the answer starts from its last token.
  if (!isBlockPiece(plan.pieces.at(-1)!) && "keep" in plan.pieces.at(-1)!) wanted.pop();
  const found = await Promise.all(wanted.map(async ({ key, tokens }) => ({ key, tokens, block: await store?.get(key) })));
  return new Map(found.flatMap(({ key, tokens, block }) => (block?.tokens === tokens ? [[key, block] as const] : [])));
}

function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new KvspliceError("cancelled", "Cancelled.", { cause: signal.reason });
}
