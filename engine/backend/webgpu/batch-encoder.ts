import { type InferenceSession, Tensor } from "../../../runtime/index.js";
import type { Block, Precision } from "../../kv/block.js";
import { RotaryTable } from "../../kv/rotary.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { kvFormOf, type ModelSpec, maskKinds } from "../../model/spec.js";
import type { BlockItem } from "../backend.js";
import { KvCache } from "../cpu/cache.js";
import { Embedding } from "../cpu/embedding.js";
import { type Room, roomWithin } from "./memory.js";
import { type DeviceGraphOptions, deviceGraphs } from "./session.js";
import { anglesOf, embeddingsOf } from "./token-feeds.js";
import { mustBeComputed } from "./valid.js";

export type BatchEncoderOptions = DeviceGraphOptions & {
  /** Bytes of the device's memory that may be used; no limit if omitted. */
  readonly memory?: number | undefined;
  /** Whether some of it is left for answers. */
  readonly answers?: boolean | undefined;
};

/** What the device returned for a batch, each block padded to the same length. */
export type ComputedBatch = {
  readonly items: readonly BlockItem[];
  readonly length: number;
  readonly results: InferenceSession.ReturnType;
};

/** Encodes batches of blocks on the device, in the current thread. */
export class BatchEncoder {
  private readonly embedding: Embedding;
  private readonly tables: readonly RotaryTable[];
  private readonly rows: KvCache;

  private constructor(
    private readonly spec: ModelSpec,
    private readonly session: InferenceSession,
    file: ModelFile,
    readonly room: Room,
  ) {
    this.embedding = new Embedding(file);
    this.tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
    this.rows = new KvCache(kvFormOf(spec), this.tables);
  }

  /**
   * @throws as `deviceGraphs` does, KvspliceError `bad_argument` if the model is larger than the memory, and ONNX Runtime's error if
   *   there is no device
   */
  static async open({ memory, answers = false, ...options }: BatchEncoderOptions): Promise<BatchEncoder> {
    const { file, spec } = options;
    const graphs = await deviceGraphs(options);
    const room = roomWithin(spec, memory, graphs.weightsBytes, answers);
    return new BatchEncoder(spec, await graphs.open("blocks.onnx"), file, room);
  }

  /** @throws as `compute` and `pack` do */
  async encode(items: readonly BlockItem[], precision: Precision): Promise<Block[]> {
    return this.pack(await this.compute(items), precision);
  }

  /** One pass over all of them. */
  async compute(items: readonly BlockItem[]): Promise<ComputedBatch> {
    const length = Math.max(...items.map(({ tokens }) => tokens.length));
    const feeds = { ...this.tokensOf(items, length), ...this.masksOf(items, length) };
    return { items, length, results: await this.session.run(feeds) };
  }

  /** @throws if the device computed nothing valid: its results are not used */
  pack({ items, length, results }: ComputedBatch, precision: Precision): Block[] {
    return items.map((item, i) => {
      const from = i * length;
      this.rows.truncate(0);
      this.rows.reserve(item.tokens.length);
      this.spec.layers.forEach(({ attention: { kvHeads, headSize } }, layer) => {
        const width = kvHeads * headSize;
        const written = this.rows.rows(layer, 0, item.tokens.length);
        for (const name of ["k", "v"] as const) {
          const values = results[`${name}.${layer}.0`]!.data as Float32Array;
          written[name].set(values.subarray(from * width, (from + item.tokens.length) * width));
          mustBeComputed(written[name].subarray(-width));
        }
      });
      // At position 0 nothing is rotated: the device's K is in the form that blocks store.
      this.rows.append(new Array<number>(item.tokens.length).fill(0));
      return this.rows.extract(item.from, item.tokens.length, precision);
    });
  }

  async close(): Promise<void> {
    this.rows.free();
    await this.session.release();
  }

  /** Embeddings and angles, each block padded with copies of its last token, which none of its own tokens sees. */
  private tokensOf(items: readonly BlockItem[], length: number): Record<string, Tensor> {
    const padded = (values: readonly number[]) => Array.from({ length }, (_, i) => values[Math.min(i, values.length - 1)]!);
    const tokens = items.flatMap((item) => padded(item.tokens));
    const positions = items.flatMap((item) => padded(item.positions));
    return {
      embeddings: embeddingsOf(this.embedding, this.spec.hidden, tokens),
      dims: new Tensor("int64", BigInt64Array.from([items.length, length], BigInt), [2]),
      ...anglesOf(this.tables, positions),
    };
  }

  /** One mask for all blocks, or one for each if there is a window and positions have gaps. */
  private masksOf(items: readonly BlockItem[], length: number): Record<string, Tensor> {
    const feeds: Record<string, Tensor> = {};
    const even = items.every(({ positions }) => positions.at(-1)! - positions[0]! === positions.length - 1);
    maskKinds(this.spec.layers).kinds.forEach(({ window, group }, m) => {
      const of = window === undefined || even ? [Array.from({ length }, (_, i) => i)] : items.map(({ positions }) => positions);
      const mask = new Float32Array(of.length * group * length * length).fill(-Infinity);
      let row = 0;
      for (const positions of of) {
        for (let query = 0; query < group * length; query++, row += length) {
          const token = query % length;
          for (let other = 0; other <= token; other++) {
            // Padding sees itself.
            const seen = window === undefined || other === token || positions[token]! - positions[other]! < window;
            if (seen) mask[row + other] = 0;
          }
        }
      }
      feeds[`mask.${m}`] = new Tensor("float32", mask, [of.length, 1, group * length, length]);
    });
    return feeds;
  }
}
