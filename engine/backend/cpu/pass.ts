import { Tensor } from "../../../runtime/index.js";
import type { KvForm } from "../../kv/form.js";
import type { KvCache } from "./cache.js";
import type { ModelConfig } from "../../model/arch/config.js";
import type { Embedding } from "./embedding.js";
import { BATCH_SLOTS, type Sessions } from "./session.js";

/** Some tokens of one prompt. Their KV joins its cache. */
export type PassPart = {
  readonly cache: KvCache;
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  /** How many of the first cached rows each token sees, and the row from which on all of them are seen; all rows when left out. */
  readonly visible?: Visible | undefined;
  /** How many of the last tokens' logits are wanted. */
  readonly logits: number;
};

export type Visible = { readonly counts: readonly number[]; readonly shared: number };

/** Logits `[part.logits, vocabulary]` of a part's last tokens; they are overwritten by the next pass. */
export type PassLogits = Float32Array;

/** Runs passes over the model's sessions, one after the other: their buffers are reused. */
export class PassRunner {
  private embeddings = new Float32Array(0);
  private readonly masks: Float32Array[] = [];
  private logits: Float32Array;
  private batch: "closed" | "opening" | "open" = "closed";
  private readonly emptyRow: Float32Array;
  readonly form: KvForm;
  /** Of one token for each row that it sees. */
  readonly scoreBytes: number;

  constructor(
    private readonly sessions: Sessions,
    private readonly config: ModelConfig,
    private readonly embedding: Embedding,
  ) {
    this.form = { layers: Array.from({ length: config.layers }, () => ({ kind: "kv", heads: config.kvHeads, headSize: config.headSize, rotary: 0 })) };
    this.scoreBytes = config.heads * Float32Array.BYTES_PER_ELEMENT;
    this.logits = new Float32Array(config.vocabulary);
    this.emptyRow = new Float32Array(config.kvHeads * config.headSize);
  }

  /** Whether passes over several parts can be made; if not yet, `open` has the session for them opened. */
  canBatch({ open }: { readonly open: boolean }): boolean {
    if (open && this.batch === "closed") {
      this.batch = "opening";
      this.sessions.batch().then(
        () => (this.batch = "open"),
        () => undefined, // one at a time, then
      );
    }
    return this.batch === "open";
  }

  /** One forward pass over at most `BATCH_SLOTS` parts, each of another cache; a part's logits do not depend on the others. */
  async run(parts: readonly PassPart[]): Promise<PassLogits[]> {
    const { config } = this;
    for (const { cache, tokens } of parts) cache.reserve(cache.length + tokens.length);
    const tokens = parts.flatMap((part) => part.tokens);
    if (this.embeddings.length < tokens.length * config.hidden) this.embeddings = new Float32Array(tokens.length * config.hidden);
    const embeddings = this.embeddings.subarray(0, tokens.length * config.hidden);
    this.embedding.gather(tokens, embeddings);

    const rows: number[] = [];
    let end = 0;
    for (const part of parts) {
      end += part.tokens.length;
      for (let row = end - part.logits; row < end; row++) rows.push(row);
    }
    if (this.logits.length < rows.length * config.vocabulary) this.logits = new Float32Array(rows.length * config.vocabulary);
    const logits = this.logits.subarray(0, rows.length * config.vocabulary);

    const feeds: Record<string, Tensor> = {
      embeddings: new Tensor("float32", embeddings, [1, tokens.length, config.hidden]),
      positions: integers(parts.flatMap((part) => part.positions), [1, tokens.length]),
      rows: integers(rows),
    };
    const fetches: Record<string, Tensor> = {};
    if (rows.length > 0) fetches["logits"] = new Tensor("float32", logits, [1, rows.length, config.vocabulary]);
    parts.forEach((part, slot) => this.addPart(part, slot, feeds, fetches));

    if (parts.length === 1) await this.sessions.single.run(feeds, fetches);
    else {
      this.addSlots(parts, feeds);
      await (await this.sessions.batch()).run(feeds, fetches);
    }
    for (const { cache, positions } of parts) cache.append(positions);
    let at = 0;
    return parts.map((part) => logits.subarray(at, (at += part.logits * config.vocabulary)));
  }

  private addPart(part: PassPart, slot: number, feeds: Record<string, Tensor>, fetches: Record<string, Tensor>): void {
    const count = part.tokens.length;
    const rows = part.cache.length + count;
    feeds[`mask.${slot}`] = this.mask(part, slot);
    this.form.layers.forEach(({ heads, headSize }, layer) => {
      // The rows that the pass writes are the last of those that it reads.
      const read = part.cache.rows(layer, 0, rows);
      const write = part.cache.rows(layer, part.cache.length, rows);
      feeds[`keys.${layer}.${slot}`] = new Tensor("float32", read.k, [rows, heads, headSize]);
      feeds[`values.${layer}.${slot}`] = new Tensor("float32", read.v, [rows, heads, headSize]);
      fetches[`k.${layer}.${slot}`] = new Tensor("float32", write.k, [1, count, heads * headSize]);
      fetches[`v.${layer}.${slot}`] = new Tensor("float32", write.v, [1, count, heads * headSize]);
    });
  }

  /** What the batch graph has beside: where each slot's tokens are, and a row in the place of those without. */
  private addSlots(parts: readonly PassPart[], feeds: Record<string, Tensor>): void {
    const { kvHeads, headSize, heads, layers } = this.config;
    const group = heads / kvHeads;
    const taken: number[] = [];
    let from = 0;
    let attended = 0;
    for (let slot = 0; slot < BATCH_SLOTS; slot++) {
      const queries = (parts[slot]?.tokens.length ?? 0) * group;
      feeds[`from.${slot}`] = integers([queries > 0 ? from : 0]);
      feeds[`to.${slot}`] = integers([queries > 0 ? from + queries : 1]);
      for (let i = 0; i < queries; i++) taken.push(attended + i);
      from += queries;
      attended += queries || 1;
      if (queries > 0) continue;
      feeds[`mask.${slot}`] = ALL_SEEN;
      const row = new Tensor("float32", this.emptyRow, [1, kvHeads, headSize]);
      for (let layer = 0; layer < layers; layer++) feeds[`keys.${layer}.${slot}`] = feeds[`values.${layer}.${slot}`] = row;
    }
    feeds["counts"] = integers(Array.from({ length: BATCH_SLOTS }, (_, slot) => parts[slot]?.tokens.length ?? 0));
    feeds["taken"] = integers(taken);
  }

  /** `[tokens * group, rows]`: 0 where a token sees, -Infinity where it does not; `[1, 1]` where it sees all. */
  private mask({ cache, tokens, visible }: PassPart, slot: number): Tensor {
    const count = tokens.length;
    if (count === 1 && (!visible || visible.counts[0] === visible.shared)) return ALL_SEEN;
    const group = this.config.heads / this.config.kvHeads;
    const columns = cache.length + count;
    const size = count * group * columns;
    if ((this.masks[slot]?.length ?? 0) < size) this.masks[slot] = new Float32Array(size);
    const mask = this.masks[slot]!.subarray(0, size);
    for (let i = 0; i < count; i++) {
      const row = i * group * columns;
      mask.fill(0, row, row + columns);
      if (visible) mask.fill(-Infinity, row + visible.counts[i]!, row + visible.shared);
      mask.fill(-Infinity, row + cache.length + i + 1, row + columns);
      for (let copy = 1; copy < group; copy++) mask.copyWithin(row + copy * columns, row, row + columns);
    }
    return new Tensor("float32", mask, [count * group, columns]);
  }
}

const ALL_SEEN = new Tensor("float32", new Float32Array(1), [1, 1]);

function integers(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}
