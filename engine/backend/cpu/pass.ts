import { type InferenceSession, Tensor } from "../../../runtime/index.js";
import { type KvForm, widthOf } from "../../kv/form.js";
import type { RotaryTable } from "../../kv/rotary.js";
import { kvFormOf, type MaskKind, type ModelSpec, maskKinds } from "../../model/spec.js";
import type { PassPart } from "../backend.js";
import type { AdapterInputs } from "./adapter.js";
import { valueShape } from "./attention.js";
import type { KvCache } from "./cache.js";
import type { Magnitudes } from "./decoder.js";
import type { Embedding } from "./embedding.js";
import { BATCH_SLOTS } from "./limits.js";
import type { Sessions } from "./session.js";

/** A part over a cache of this backend. */
type CpuPart = PassPart & { readonly cache: KvCache };

/**
 * Minimum number of rows in a pass. Kernels for one row round differently from those for several: a token that is alone
 * in its pass is computed twice, so that the result is the same as alongside others.
 */
const LEAST_ROWS = 2;

/** Runs passes over the model's sessions one after the other, reusing their buffers. */
export class PassRunner {
  private embeddings = new Float32Array(0);
  /** For each kind of rotary embedding, the tokens' cosines, then their sines. */
  private readonly angles: Float32Array[] = [];
  private readonly masks = new Map<string, Float32Array>();
  private readonly maskKinds: readonly MaskKind[];
  private readonly emptyRow: Float32Array;
  readonly form: KvForm;

  constructor(
    private readonly sessions: Sessions,
    private readonly spec: ModelSpec,
    /** By kind of rotary embedding. */
    private readonly rotaries: readonly RotaryTable[],
    private readonly embedding: Embedding,
  ) {
    this.form = kvFormOf(spec);
    this.maskKinds = maskKinds(spec.layers).kinds;
    this.emptyRow = new Float32Array(Math.max(...this.form.layers.map(widthOf)));
  }

  /**
   * One forward pass over at most `BATCH_SLOTS` parts, each with a different cache: see `Backend.run`.
   * @param adapter acts on the pass, which then has one part
   * @param encoder computes the pass, which then has one part and no logits
   */
  async run(given: readonly CpuPart[], adapter?: AdapterInputs, encoder?: InferenceSession): Promise<Float32Array[]> {
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

    const feeds: Record<string, Tensor> = {
      embeddings: this.embed(parts.flatMap((part) => part.tokens)),
      ...(!encoder && { rows: integers(rows) }),
      ...adapter,
    };
    this.addAngles(
      parts.flatMap((part) => part.positions),
      feeds,
    );
    const fetches: Record<string, Tensor> = {};
    if (rows.length > 0) fetches["logits"] = new Tensor("float32", logits, [1, rows.length, vocabulary]);
    parts.forEach((part, slot) => this.addPart(part, slot, feeds, fetches));

    if (encoder) await encoder.run(feeds, fetches);
    else if (parts.length === 1) await (adapter ? await this.sessions.adapted() : this.sessions.single).run(feeds, fetches);
    else {
      this.addSlots(parts, feeds);
      await (await this.sessions.batch()).run(feeds, fetches);
    }
    for (const { cache, positions } of given) cache.append(positions);
    let at = 0;
    return parts.map((part) => logits.subarray(at, (at += part.logits * vocabulary)));
  }

  /**
   * How much attention each row gets in the watched layers, summed over heads
   * and over the asking tokens. The cache is unchanged.
   * @param asks one weight for each of the part's tokens
   * @returns one weight per row, for the cached rows and the part's own
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

  /** The largest magnitude of each input channel of the linear layers over these tokens, by `magnitudesName`. */
  async magnitudes(tokens: readonly number[], cache: KvCache): Promise<Magnitudes> {
    const positions = [...tokens.keys()];
    cache.reserve(tokens.length);
    const feeds: Record<string, Tensor> = { embeddings: this.embed(tokens) };
    this.addAngles(positions, feeds);
    const written: Record<string, Tensor> = {};
    this.addPart({ cache, tokens, positions, logits: 0 }, 0, feeds, written);
    return this.sessions.measuring(async (session) => {
      const measured = session.outputNames.filter((name) => !(name in written));
      const results = await session.run(feeds, { ...written, ...Object.fromEntries(measured.map((name) => [name, null])) });
      return new Map(measured.map((name) => [name, (results[name]!.data as Float32Array).slice()]));
    });
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

  /** The parts, with a token repeated if it is the only row of all products or of its own attention. */
  private doubled(parts: readonly CpuPart[]): readonly CpuPart[] {
    const group = Math.min(...this.maskKinds.map((kind) => kind.group));
    const isAlone = ({ tokens }: CpuPart) => tokens.length === 1 && (parts.length === 1 || group < LEAST_ROWS);
    if (!parts.some(isAlone)) return parts;
    return parts.map((part) => {
      if (!isAlone(part)) return part;
      const { tokens, positions, visible } = part;
      return {
        ...part,
        tokens: [...tokens, ...tokens],
        positions: [...positions, ...positions],
        visible: visible && { ...visible, counts: [...visible.counts, ...visible.counts] },
      };
    });
  }

  private addPart(part: CpuPart, slot: number, feeds: Record<string, Tensor>, fetches: Record<string, Tensor>): void {
    const count = part.tokens.length;
    const rows = part.cache.length + count;
    this.maskKinds.forEach((kind, m) => (feeds[`mask.${m}.${slot}`] = this.mask(part, kind, `${m} ${slot}`)));
    this.spec.layers.forEach(({ attention: { kvHeads, headSize } }, layer) => {
      // The rows that the pass writes are the last ones that it reads.
      const read = part.cache.rows(layer, 0, rows);
      const write = part.cache.rows(layer, part.cache.length, rows);
      feeds[`keys.${layer}.${slot}`] = new Tensor("float32", read.k, [rows, kvHeads, headSize]);
      feeds[`values.${layer}.${slot}`] = new Tensor("float32", read.v, valueShape(rows, { kvHeads, headSize }));
      fetches[`k.${layer}.${slot}`] = new Tensor("float32", write.k, [1, count, kvHeads * headSize]);
      fetches[`v.${layer}.${slot}`] = new Tensor("float32", write.v, [1, count, kvHeads * headSize]);
    });
  }

  /** The additional inputs of the batch graph: where each slot's tokens are, and a placeholder row for slots without any. */
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
        const row = this.emptyRow.subarray(0, kvHeads * headSize);
        feeds[`keys.${layer}.${slot}`] = new Tensor("float32", row, [1, kvHeads, headSize]);
        feeds[`values.${layer}.${slot}`] = new Tensor("float32", row, valueShape(1, { kvHeads, headSize }));
      });
    }
  }

  /** `[tokens * group, rows]`: 0 if a token sees a row, -Infinity if not; `[1, 1]` if all see all. */
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
