import { Tensor, type InferenceSession } from "onnxruntime-node";
import type { KvShape } from "../kv/block.js";
import type { ModelConfig } from "../weights/config.js";
import type { Embedding } from "../weights/embedding.js";

/** One layer's K and V, `[tokens, kv_heads, head_size]` each. */
export type LayerKv = { readonly k: Float32Array; readonly v: Float32Array };

/** One forward pass over some tokens. */
export type PassRequest = {
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  /** Cached rows, T of them: K after the rotary embedding. */
  readonly pastLength: number;
  past(layer: number): LayerKv;
  /** How many of the first past rows a token sees, by index in the pass, and which rows past `shared` all tokens see. */
  readonly visible?: { readonly counts: readonly number[]; readonly shared: number };
  /** Receives the pass's K and V: K after the rotary embedding (`rotated`) or before it. */
  readonly into: { readonly rotated: boolean; layer(layer: number): LayerKv };
  /** Whether the logits of the last token are wanted. */
  readonly logits: boolean;
};

/** Runs passes over one inference session; its buffers are reused, so passes go one after the other. */
export class PassRunner {
  private embeddings = new Float32Array(0);
  private mask = new Float32Array(0);
  private readonly logits: Float32Array;
  private readonly emptyPast: Float32Array;
  private turn: Promise<unknown> = Promise.resolve();
  readonly shape: KvShape;

  constructor(
    private readonly session: InferenceSession,
    private readonly config: ModelConfig,
    private readonly embedding: Embedding,
  ) {
    this.shape = { layers: config.layers, width: config.kvHeads * config.headSize };
    this.logits = new Float32Array(config.vocabulary);
    this.emptyPast = new Float32Array(this.shape.width);
  }

  /** Logits of the last token, `[vocabulary]`, where asked for; they are overwritten by the next pass. */
  run(request: PassRequest): Promise<Float32Array> {
    const result = this.turn.then(() => this.pass(request));
    this.turn = result.catch(() => undefined);
    return result;
  }

  /** Resolves when no pass is running. */
  async idle(): Promise<void> {
    await this.turn;
  }

  private async pass(request: PassRequest): Promise<Float32Array> {
    const { config, shape } = this;
    const count = request.tokens.length;
    // ONNX Runtime's FusedMatMul divides by zero over an empty past: one masked row stands for it.
    const empty = request.pastLength === 0;
    const past = empty ? 1 : request.pastLength;

    if (this.embeddings.length < count * config.hidden) this.embeddings = new Float32Array(count * config.hidden);
    const embeddings = this.embeddings.subarray(0, count * config.hidden);
    this.embedding.gather(request.tokens, embeddings);

    const feeds: Record<string, Tensor> = {
      embeddings: new Tensor("float32", embeddings, [1, count, config.hidden]),
      positions: new Tensor("int64", BigInt64Array.from(request.positions, BigInt), [1, count]),
      mask: this.maskTensor(request, past, empty),
      parts: new Tensor("int64", BigInt64Array.from([past, count], BigInt), [2]),
      rows: new Tensor("int64", BigInt64Array.of(BigInt(count - 1)), [1]),
    };
    const fetches: Record<string, Tensor> = { logits: new Tensor("float32", this.logits, [1, 1, config.vocabulary]) };
    const kName = request.into.rotated ? "k" : "raw_k";
    for (let layer = 0; layer < shape.layers; layer++) {
      const rows = empty ? { k: this.emptyPast, v: this.emptyPast } : request.past(layer);
      feeds[`past_k.${layer}`] = new Tensor("float32", rows.k, [past, config.kvHeads, config.headSize]);
      feeds[`past_v.${layer}`] = new Tensor("float32", rows.v, [past, config.kvHeads, config.headSize]);
      const out = request.into.layer(layer);
      fetches[`${kName}.${layer}`] = new Tensor("float32", out.k, [1, count, shape.width]);
      fetches[`v.${layer}`] = new Tensor("float32", out.v, [1, count, shape.width]);
    }
    if (!request.logits) delete fetches["logits"];
    await this.session.run(feeds, fetches);
    return this.logits;
  }

  /** `[group * S, T + S]`: 0 where a token sees, -Infinity where it does not. */
  private maskTensor(request: PassRequest, past: number, empty: boolean): Tensor {
    const count = request.tokens.length;
    const group = this.config.heads / this.config.kvHeads;
    const columns = past + count;
    const size = group * count * columns;
    if (this.mask.length < size) this.mask = new Float32Array(size);
    const mask = this.mask.subarray(0, size).fill(0);
    for (let i = 0; i < count; i++) {
      const row = i * columns;
      if (empty) mask[row] = -Infinity;
      if (request.visible) mask.fill(-Infinity, row + request.visible.counts[i]!, row + request.visible.shared);
      mask.fill(-Infinity, row + past + i + 1, row + columns);
    }
    for (let copy = 1; copy < group; copy++) mask.copyWithin(copy * count * columns, 0, count * columns);
    return new Tensor("float32", mask, [group * count, columns]);
  }
}
