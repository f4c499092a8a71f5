import { Tensor } from "../../../runtime/index.js";
import { widthOf, type KvForm } from "../../kv/form.js";
import type { RotaryTable } from "../../kv/rotary.js";
import { kvFormOf, maskKinds, type MaskKind, type ModelSpec } from "../../model/spec.js";
import type { AdapterInputs } from "./adapter.js";
import type { PassPart } from "../backend.js";
import type { KvCache } from "./cache.js";
import type { Embedding } from "./embedding.js";
import { BATCH_SLOTS, type Sessions } from "./session.js";

/** A part over a cache of this backend. */
type CpuPart = PassPart & { readonly cache: KvCache };

/**
 * Rows that a pass computes at least. Kernels for one row round otherwise than those for several: a token that is alone
 * in its pass is computed twice, so that it comes out as it does beside others.
 */
const LEAST_ROWS = 2;

/** Runs passes over the model's sessions, one after the other: their buffers are reused. */
export class PassRunner {
  private embeddings = new Float32Array(0);
  /** Per kind of rotary embedding the tokens' cosines, then their sines. */
  private readonly angles: Float32Array[] = [];
  private readonly masks = new Map<string, Float32Array>();
  private readonly maskKinds: readonly MaskKind[];
  private readonly emptyRow: Float32Array;
  readonly form: KvForm;
  /** Of one token for each row that it sees. */
  readonly scoreBytes: number;

  constructor(
    private readonly sessions: Sessions,
    private readonly spec: ModelSpec,
    /** By kind of rotary embedding. */
    private readonly rotaries: readonly RotaryTable[],
    private readonly embedding: Embedding,
  ) {
    this.form = kvFormOf(spec);
    this.maskKinds = maskKinds(spec.layers).kinds;
    this.scoreBytes = Math.max(...spec.layers.map((layer) => layer.attention.heads)) * Float32Array.BYTES_PER_ELEMENT;
    this.emptyRow = new Float32Array(Math.max(...this.form.layers.map(widthOf)));
  }

  /**
   * One forward pass over at most `BATCH_SLOTS` parts, each of another cache: see `Backend.run`.
   * @param adapter acts on the pass, which is then one part's
   */
  async run(given: readonly CpuPart[], adapter?: AdapterInputs): Promise<Float32Array[]> {
    const { vocabulary } = this.spec;
    const parts = this.doubled(given);
    for (const { cache, tokens } of parts) cache.reserve(cache.length + tokens.length);
    const rows: number[] = [];
    let end = 0;
    parts.forEach((part, i) => {
      const last = end + given[i]!.tokens.length;
      for (let row = last - part.logits; row < last; row++) rows.push(row);
      end += part.tokens.length;
    });
    const logits = new Float32Array(rows.length * vocabulary);

    const feeds: Record<string, Tensor> = { embeddings: this.embed(parts.flatMap((part) => part.tokens)), rows: integers(rows), ...adapter };
    this.addAngles(parts.flatMap((part) => part.positions), feeds);
    const fetches: Record<string, Tensor> = {};
    if (rows.length > 0) fetches["logits"] = new Tensor("float32", logits, [1, rows.length, vocabulary]);
    parts.forEach((part, slot) => this.addPart(part, slot, feeds, fetches));

    if (parts.length === 1) await (adapter ? await this.sessions.adapted() : this.sessions.single).run(feeds, fetches);
    else {
      this.addSlots(parts, feeds);
      await (await this.sessions.batch()).run(feeds, fetches);
    }
    for (const { cache, positions } of given) cache.append(positions);
    let at = 0;
    return parts.map((part) => logits.subarray(at, (at += part.logits * vocabulary)));
  }

  /**
   * How much each cached row is looked at: the attention that it gets in the layers that are watched, summed over heads
   * and over the tokens that ask. The cache stays as it is.
   * @param asks a weight for each of the part's tokens
   * @returns a weight a row, of the cached ones and of the part's own
   */
  async look(part: CpuPart, asks: readonly number[]): Promise<Float32Array> {
    const { cache, tokens, positions } = part;
    cache.reserve(cache.length + tokens.length);
    const feeds: Record<string, Tensor> = { embeddings: this.embed(tokens) };
    this.addAngles(positions, feeds);
    const looks = new Float32Array(cache.length + tokens.length);
    const fetches: Record<string, Tensor> = { looks: new Tensor("float32", looks, [looks.length]) };
    this.addPart(part, 0, feeds, fetches);
    this.maskKinds.forEach(({ group }, m) => {
      const weights = Float32Array.from({ length: tokens.length * group }, (_, query) => asks[Math.floor(query / group)]!);
      feeds[`asks.${m}`] = new Tensor("float32", weights, [1, weights.length]);
    });
    await (await this.sessions.look()).run(feeds, fetches);
    return looks;
  }

  private embed(tokens: readonly number[]): Tensor {
    const { hidden } = this.spec;
    const size = tokens.length * hidden;
    if (this.embeddings.length < size) this.embeddings = new Float32Array(size);
    const embeddings = this.embeddings.subarray(0, size);
    this.embedding.gather(tokens, embeddings);
    return new Tensor("float32", embeddings, [1, tokens.length, hidden]);
  }

  /** Cosines and sines of the tokens' positions. */
  private addAngles(positions: readonly number[], feeds: Record<string, Tensor>): void {
    this.rotaries.forEach((table, r) => {
      const size = positions.length * table.half;
      if ((this.angles[r]?.length ?? 0) < 2 * size) this.angles[r] = new Float32Array(2 * size);
      const [cos, sin] = [this.angles[r]!.subarray(0, size), this.angles[r]!.subarray(size, 2 * size)];
      positions.forEach((position, i) => {
        const row = table.row(position);
        cos.set(row.subarray(0, table.half), i * table.half);
        sin.set(row.subarray(table.half), i * table.half);
      });
      feeds[`cos.${r}`] = new Tensor("float32", cos, [positions.length, table.half]);
      feeds[`sin.${r}`] = new Tensor("float32", sin, [positions.length, table.half]);
    });
  }

  /** The parts, with a copy of a token behind it where it is the only row of all products, or of its own attention. */
  private doubled(parts: readonly CpuPart[]): readonly CpuPart[] {
    const group = Math.min(...this.maskKinds.map((kind) => kind.group));
    const isAlone = ({ tokens }: CpuPart) => tokens.length === 1 && (parts.length === 1 || group < LEAST_ROWS);
    if (!parts.some(isAlone)) return parts;
    return parts.map((part) => {
      if (!isAlone(part)) return part;
      const { tokens, positions, visible } = part;
      return { ...part, tokens: [...tokens, ...tokens], positions: [...positions, ...positions], visible: visible && { ...visible, counts: [...visible.counts, ...visible.counts] } };
    });
  }

  private addPart(part: CpuPart, slot: number, feeds: Record<string, Tensor>, fetches: Record<string, Tensor>): void {
    const count = part.tokens.length;
    const rows = part.cache.length + count;
    this.maskKinds.forEach((kind, m) => (feeds[`mask.${m}.${slot}`] = this.mask(part, kind, `${m} ${slot}`)));
    this.spec.layers.forEach(({ attention: { kvHeads, headSize } }, layer) => {
      // The rows that the pass writes are the last of those that it reads.
      const read = part.cache.rows(layer, 0, rows);
      const write = part.cache.rows(layer, part.cache.length, rows);
      feeds[`keys.${layer}.${slot}`] = new Tensor("float32", read.k, [rows, kvHeads, headSize]);
      feeds[`values.${layer}.${slot}`] = new Tensor("float32", read.v, [rows, kvHeads, headSize]);
      fetches[`k.${layer}.${slot}`] = new Tensor("float32", write.k, [1, count, kvHeads * headSize]);
      fetches[`v.${layer}.${slot}`] = new Tensor("float32", write.v, [1, count, kvHeads * headSize]);
    });
  }

  /** What the batch graph has beside: where each slot's tokens are, and a row in the place of those without. */
  private addSlots(parts: readonly CpuPart[], feeds: Record<string, Tensor>): void {
    const counts = Array.from({ length: BATCH_SLOTS }, (_, slot) => parts[slot]?.tokens.length ?? 0);
    feeds["counts"] = integers(counts);
    this.maskKinds.forEach(({ group }, m) => {
      const taken: number[] = [];
      let from = 0;
      let attended = 0;
      counts.forEach((count, slot) => {
        const queries = count * group;
        feeds[`from.${m}.${slot}`] = integers([queries > 0 ? from : 0]);
        feeds[`to.${m}.${slot}`] = integers([queries > 0 ? from + queries : 1]);
        for (let i = 0; i < queries; i++) taken.push(attended + i);
        from += queries;
        attended += queries || 1;
        if (queries === 0) feeds[`mask.${m}.${slot}`] = ALL_SEEN;
      });
      feeds[`taken.${m}`] = integers(taken);
    });
    for (let slot = parts.length; slot < BATCH_SLOTS; slot++) {
      this.spec.layers.forEach(({ attention: { kvHeads, headSize } }, layer) => {
        feeds[`keys.${layer}.${slot}`] = feeds[`values.${layer}.${slot}`] = new Tensor("float32", this.emptyRow.subarray(0, kvHeads * headSize), [1, kvHeads, headSize]);
      });
    }
  }

  /** `[tokens * group, rows]`: 0 where a token sees, -Infinity where it does not; `[1, 1]` where it sees all. */
  private mask({ cache, tokens, positions, visible }: CpuPart, { group, window }: MaskKind, name: string): Tensor {
    const count = tokens.length;
    if (count === 1 && window === undefined && (!visible || visible.counts[0] === visible.shared)) return ALL_SEEN;
    const columns = cache.length + count;
    const size = count * group * columns;
    if ((this.masks.get(name)?.length ?? 0) < size) this.masks.set(name, new Float32Array(size));
    const mask = this.masks.get(name)!.subarray(0, size);
    const past = cache.positions;
    for (let i = 0; i < count; i++) {
      const row = i * group * columns;
      mask.fill(0, row, row + columns);
      if (visible) mask.fill(-Infinity, row + visible.counts[i]!, row + visible.shared);
      mask.fill(-Infinity, row + cache.length + i + 1, row + columns);
      if (window !== undefined) {
        const last = positions[i]! - window;
        for (let column = 0; column < past.length; column++) if (past[column]! <= last) mask[row + column] = -Infinity;
        for (let before = 0; before < i; before++) if (positions[before]! <= last) mask[row + cache.length + before] = -Infinity;
      }
      for (let copy = 1; copy < group; copy++) mask.copyWithin(row + copy * columns, row, row + columns);
    }
    return new Tensor("float32", mask, [count * group, columns]);
  }
}

const ALL_SEEN = new Tensor("float32", new Float32Array(1), [1, 1]);

function integers(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}
