import type { Range } from "../../../plan/index.js";
import { InferenceSession, Tensor } from "../../../runtime/index.js";
import { allocateBlock, type Block, emptyBlock, GROUP_TOKENS, type Precision } from "../../kv/block.js";
import { type KvForm, layerOffsets, widthOf } from "../../kv/form.js";
import { RotaryTable } from "../../kv/rotary.js";
import { kvFormOf, type MaskKind, type ModelSpec, maskKinds } from "../../model/spec.js";
import type { PassPart } from "../backend.js";
import { KvCache } from "../cpu/cache.js";
import { SOUND } from "../cpu/decoder.js";
import { Embedding } from "../cpu/embedding.js";
import { Buffers, integers, type Upload } from "./buffers.js";
import { needsNoMask, PROMPT_SLOTS, written } from "./prompt-attention.js";
import { type DeviceGraphOptions, type DeviceGraphs, deviceGraphs, ON_DEVICE } from "./session.js";
import { blockInput, type HeldPrecision, SPLICE_SIZES, spliceGraph, unitsOf } from "./splice-graph.js";
import { anglesOf, TokenEmbeddings } from "./token-feeds.js";
import { mustBeComputed, mustBeSound } from "./valid.js";

/** A score that no other comes near: with infinite ones, rows of which a kernel's tile shows none would give NaN. */
const UNSEEN = -1e30;

/** The KV of one prompt on the device: per layer `[1, heads, capacity, head_size]`, and the position of each row. */
export type DeviceRows = {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly capacity: number;
  length: number;
  positions: Int32Array;
};

/** A block on the device, as it is stored. */
export type DeviceBlock = { readonly tokens: number; readonly precision: HeldPrecision; readonly arrays: Readonly<Record<string, Upload>> };

/** A block to be spliced: token i for `positions[i]`, only the tokens `kept`. */
export type DeviceSplice = { readonly block: DeviceBlock; readonly positions: Int32Array; readonly kept: readonly Range[] };

/** A part of a pass over rows on the device. */
export type DevicePart = Omit<PassPart, "cache"> & { readonly cache: DeviceRows };

/** Keeps the KV of prompts in the device's memory and computes passes over them, in the current thread. */
export class PromptPasses {
  private readonly form: KvForm;
  /** Whether prompts need no mask if their tokens see all before them. */
  private readonly plain: boolean;
  private readonly kinds: readonly MaskKind[];
  private readonly embeddings: TokenEmbeddings;
  private readonly tables: readonly RotaryTable[];
  private readonly sessions = new Map<string, Promise<InferenceSession>>();
  /** For blocks that a graph has and a splice does not. */
  private readonly nothings = new Map<HeldPrecision, DeviceBlock>();
  /** For slots that no prompt uses. */
  private idle: DeviceRows | undefined;

  private constructor(
    private readonly spec: ModelSpec,
    private readonly graphs: DeviceGraphs,
    private readonly buffers: Buffers,
    { file, able }: DeviceGraphOptions,
  ) {
    this.plain = needsNoMask(spec.layers, able.fused);
    this.form = kvFormOf(spec);
    this.kinds = maskKinds(spec.layers).kinds;
    this.embeddings = new TokenEmbeddings(new Embedding(file), spec.hidden);
    this.tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
  }

  /** @throws as `deviceGraphs` does, and ONNX Runtime's error if there is no device */
  static async open(options: DeviceGraphOptions): Promise<PromptPasses> {
    return new PromptPasses(options.spec, await deviceGraphs(options), await Buffers.open(), options);
  }

  /** No rows, and no memory. */
  empty(): DeviceRows {
    return { keys: [], values: [], capacity: 0, length: 0, positions: new Int32Array(0) };
  }

  /** The same rows in buffers with this capacity; the given ones are freed. */
  async grown(rows: DeviceRows, capacity: number): Promise<DeviceRows> {
    const made: Tensor[] = [];
    try {
      for (const [i, { heads, headSize }] of this.form.layers.entries()) {
        for (const old of [rows.keys[i], rows.values[i]]) {
          const dims = [1, heads, capacity, headSize];
          made.push(old && rows.length > 0 ? await this.buffers.extended(old, capacity) : await this.buffers.zeros(dims));
        }
      }
    } catch (error) {
      for (const buffer of made) buffer.dispose();
      throw error;
    }
    const positions = new Int32Array(capacity);
    positions.set(rows.positions.subarray(0, rows.length));
    const grown = {
      keys: made.filter((_, i) => i % 2 === 0),
      values: made.filter((_, i) => i % 2 === 1),
      capacity,
      length: rows.length,
      positions,
    };
    this.free(rows);
    return grown;
  }

  free({ keys, values }: DeviceRows): void {
    for (const buffer of [...keys, ...values]) buffer.dispose();
  }

  /** A copy of a block in the device's memory. */
  async upload(block: Block): Promise<DeviceBlock> {
    const { layers } = this.form;
    const { widths, heads } = layerOffsets(layers);
    const units = unitsOf(layers);
    const { tokens } = block;
    const held = block.precision === "float16" ? this.widened(block) : block;
    const [rows, headRows] = [widths.at(-1)! / units.width, heads.at(-1)! / units.heads];
    const arrays: Record<string, Upload> = {};
    try {
      for (const name of ["k", "v"] as const) arrays[name] = await this.buffers.upload(held[name], [rows, tokens * units.width]);
      if (held.precision === "int8") {
        const groups = Math.ceil(tokens / GROUP_TOKENS);
        arrays["kScales"] = await this.buffers.upload(held.kScales, [rows, groups * units.width]);
        arrays["vScales"] = await this.buffers.upload(held.vScales, [headRows, tokens * units.heads]);
      }
    } catch (error) {
      this.drop({ tokens, precision: held.precision, arrays });
      throw error;
    }
    return { tokens, precision: held.precision, arrays };
  }

  drop({ arrays }: DeviceBlock): void {
    for (const upload of Object.values(arrays)) upload.free();
  }

  /** Puts blocks' tokens after the rows, one block after the other, except those left out: see `Cache.splice`. There must be room. */
  async splice(rows: DeviceRows, splices: readonly DeviceSplice[]): Promise<void> {
    const most = SPLICE_SIZES.at(-1)!;
    for (let from = 0; from < splices.length; ) {
      const { precision } = splices[from]!.block;
      const differs = splices.findIndex(({ block }, i) => i > from && block.precision !== precision);
      const to = Math.min(from + most, differs < 0 ? splices.length : differs);
      await this.spliceAlike(rows, splices.slice(from, to), precision);
      from = to;
    }
  }

  private async spliceAlike(rows: DeviceRows, splices: readonly DeviceSplice[], precision: HeldPrecision): Promise<void> {
    const blocks = SPLICE_SIZES.find((size) => size >= splices.length)!;
    const name = `splice ${precision} ${blocks}`;
    const session = await this.session(name, () =>
      InferenceSession.create(spliceGraph(this.form.layers, this.spec.rotaries, { precision, blocks }), {
        ...ON_DEVICE,
        // Otherwise ONNX Runtime quantises the values again between the operators that move them.
        extra: { session: { disable_quant_qdq: "1" } },
      }),
    );
    const missing = blocks - splices.length;
    const all = [...splices, ...new Array<DeviceSplice>(missing).fill(missing > 0 ? await this.nothing(precision) : splices[0]!)];
    const feeds: Record<string, Tensor> = {};
    const places: number[] = [];
    let row = rows.length;
    all.forEach(({ block, kept }, i) => {
      const own = new Int32Array(block.tokens).fill(rows.capacity);
      for (const [start, end] of kept) for (let token = start; token < end; token++) own[token] = row++;
      places.push(...own);
      for (const [array, { tensor }] of Object.entries(block.arrays)) feeds[blockInput(array, i)] = tensor;
      if (precision === "float32") return;
      const groups = Int32Array.from(own, (_, token) => Math.floor(token / GROUP_TOKENS));
      feeds[blockInput("groups", i)] = new Tensor("int32", groups, [groups.length]);
    });
    feeds["rows"] = new Tensor("int32", Int32Array.from(places), [1, 1, places.length, 1]);
    const positions = all.flatMap((splice) => [...splice.positions]);
    Object.assign(feeds, anglesOf(this.tables, positions));
    await session.run(feeds, this.addBuffers(rows, 0, feeds));
    for (const { positions, kept } of splices) {
      for (const [start, end] of kept) {
        rows.positions.set(positions.subarray(start, end), rows.length);
        rows.length += end - start;
      }
    }
  }

  /** A block of one token, which is left out, for graphs with more blocks than there are. */
  private async nothing(precision: HeldPrecision): Promise<DeviceSplice> {
    let block = this.nothings.get(precision);
    if (!block) this.nothings.set(precision, (block = await this.upload(emptyBlock(this.form.layers, 1, precision))));
    return { block, positions: new Int32Array(1), kept: [] };
  }

  /** Prepares passes over several prompts. */
  async widen(): Promise<void> {
    await this.session("several.onnx", () => this.graphs.open("several.onnx"));
    this.idle ??= await this.grown(this.empty(), 1);
  }

  /**
   * One forward pass over at most `PROMPT_SLOTS` parts with different rows, after `widen` if there are several; the rows of their tokens
   * are added. There must be room.
   * @returns for each part logits `[part.logits, vocabulary]` of its last tokens
   * @throws if the device computes nothing valid
   */
  async run(parts: readonly DevicePart[]): Promise<Float32Array[]> {
    const { plain } = this;
    if (parts.length > 1 && plain && !parts.every(seesAll)) {
      const results: Float32Array[] = [];
      for (const part of parts) results.push(...(await this.run([part])));
      return results;
    }
    const file = parts.length > 1 ? "several.onnx" : plain && seesAll(parts[0]!) ? "prompt.onnx" : "masked.onnx";
    const session = await this.session(file, () => this.graphs.open(file));
    const slots = parts.length === 1 ? parts : [...parts, ...this.unused(PROMPT_SLOTS - parts.length, parts[0]!)];
    const rows = lastRows(slots);
    // The graph always computes some logits; if nobody needs any, they are not fetched.
    const feeds: Record<string, Tensor> = { rows: integers(rows.length > 0 ? rows : [0]) };
    if (slots.length > 1) feeds["counts"] = integers(slots.map((part) => part.tokens.length));
    const fetches = this.addParts(slots, session, feeds);
    if (rows.length > 0) fetches["logits"] = null;
    const results = await this.compute(session, feeds, fetches);
    const found = rows.length > 0 ? (results["logits"]!.data as Float32Array) : new Float32Array(0);
    let at = 0;
    return parts.map(({ cache, positions, logits }) => {
      const own = found.slice(at, (at += logits * this.spec.vocabulary));
      if (logits > 0) mustBeComputed(own.subarray(-this.spec.vocabulary));
      cache.positions.set(positions, cache.length);
      cache.length += positions.length;
      return own;
    });
  }

  /**
   * How much attention the tokens of a part pay to each row: see `Backend.look`. There must be room for them.
   * @throws if the device computes nothing valid
   */
  async look(part: DevicePart, asks: readonly number[]): Promise<Float32Array> {
    const session = await this.session("looks.onnx", () => this.graphs.open("looks.onnx"));
    const feeds: Record<string, Tensor> = { asks: new Tensor("float32", Float32Array.from(asks), [1, 1, 1, asks.length]) };
    const fetches = this.addParts([part], session, feeds);
    fetches["looks"] = null;
    const looks = (await this.compute(session, feeds, fetches))["looks"]!.data as Float32Array;
    mustBeComputed(looks);
    return looks.slice();
  }

  /**
   * Rows `[from, to)` as a block: K without the rotary embedding.
   * @throws if the device returns nothing valid
   */
  async extract(rows: DeviceRows, from: number, to: number, precision: Precision): Promise<Block> {
    const cache = new KvCache(this.form, this.tables);
    cache.reserve(to - from);
    for (const [layer, { heads, headSize }] of this.form.layers.entries()) {
      const own = cache.rows(layer, 0, to - from);
      for (const [name, buffer] of [
        ["k", rows.keys[layer]!],
        ["v", rows.values[layer]!],
      ] as const) {
        own[name].set(await this.buffers.read(buffer, from, to));
        mustBeComputed(own[name].subarray(-heads * headSize));
      }
    }
    cache.append([...rows.positions.subarray(from, to)]);
    return cache.extract(0, to - from, precision);
  }

  async close(): Promise<void> {
    if (this.idle) this.free(this.idle);
    for (const block of this.nothings.values()) this.drop(block);
    for (const session of this.sessions.values()) await (await session.catch(() => undefined))?.release();
    await this.buffers.close();
  }

  private async compute(
    session: InferenceSession,
    feeds: Record<string, Tensor>,
    fetches: Record<string, Tensor | null>,
  ): Promise<InferenceSession.ReturnType> {
    const isChecked = session.outputNames.includes(SOUND);
    const results = await session.run(feeds, isChecked ? { ...fetches, [SOUND]: null } : fetches);
    if (isChecked) mustBeSound(results[SOUND]!.data as Float32Array);
    return results;
  }

  private session(name: string, open: () => Promise<InferenceSession>): Promise<InferenceSession> {
    const session = this.sessions.get(name) ?? open();
    this.sessions.set(name, session);
    return session;
  }

  /** What a pass over parts reads; returns what it writes in place. */
  private addParts(parts: readonly DevicePart[], session: InferenceSession, feeds: Record<string, Tensor>): Record<string, Tensor | null> {
    const tokens = parts.flatMap((part) => part.tokens);
    feeds["embeddings"] = this.embeddings.of(tokens);
    const positions = parts.flatMap((part) => part.positions);
    Object.assign(feeds, anglesOf(this.tables, positions));
    const fetches: Record<string, Tensor | null> = {};
    parts.forEach((part, slot) => {
      Object.assign(fetches, this.addBuffers(part.cache, slot, feeds));
      this.addPart(part, slot, session, feeds);
    });
    return fetches;
  }

  /** The buffers as inputs; returns them as outputs, which are written in place. */
  private addBuffers(rows: DeviceRows, slot: number, feeds: Record<string, Tensor>): Record<string, Tensor> {
    const fetches: Record<string, Tensor> = {};
    for (const name of ["keys", "values"] as const)
      rows[name].forEach((buffer, layer) => {
        feeds[`${name}.${layer}.${slot}`] = fetches[written(`${name}.${layer}.${slot}`)] = buffer;
      });
    return fetches;
  }

  private addPart(part: DevicePart, slot: number, session: InferenceSession, feeds: Record<string, Tensor>): void {
    const { cache, tokens } = part;
    const total = cache.length + tokens.length;
    feeds[`last.${slot}`] = new Tensor("int32", Int32Array.of(total - 1), [1]);
    feeds[`total.${slot}`] = new Tensor("int32", Int32Array.of(total), [1]);
    this.kinds.forEach((kind, m) => {
      const name = `mask.${m}.${slot}`;
      if (session.inputNames.includes(name)) feeds[name] = maskOf(part, kind);
    });
    if (!session.inputNames.includes(`rows.${slot}`)) return;
    const rows = Int32Array.from(tokens, (_, i) => cache.length + i);
    feeds[`rows.${slot}`] = new Tensor("int32", rows, [1, 1, tokens.length, 1]);
    feeds[`all.${slot}`] = integers([total]);
  }

  /** Parts for slots that no prompt uses: one token each, in rows that nobody reads. */
  private unused(count: number, { tokens, positions }: DevicePart): readonly DevicePart[] {
    const part = { cache: this.idle!, tokens: tokens.slice(0, 1), positions: positions.slice(0, 1), logits: 0 };
    return new Array<DevicePart>(count).fill(part);
  }

  /** A block in float32. */
  private widened(block: Block): Block & { readonly precision: "float32" } {
    const cache = new KvCache(this.form, this.tables);
    cache.splice(block, new Int32Array(block.tokens)); // at position 0 nothing is rotated
    const wide = allocateBlock(this.form.layers, block.tokens);
    let at = 0;
    for (const [layer, form] of this.form.layers.entries()) {
      const { k, v } = cache.rows(layer, 0, block.tokens);
      wide.k.set(k, at);
      wide.v.set(v, at);
      at += block.tokens * widthOf(form);
    }
    return wide;
  }
}

function seesAll({ visible }: DevicePart): boolean {
  return !visible || visible.counts.every((count) => count >= visible.shared);
}

/** The rows of a pass whose logits are needed. */
function lastRows(parts: readonly DevicePart[]): number[] {
  const rows: number[] = [];
  let end = 0;
  for (const { tokens, logits } of parts) {
    end += tokens.length;
    for (let row = end - logits; row < end; row++) rows.push(row);
  }
  return rows;
}

/** `[1, 1, tokens, rows]`: 0 if a token sees a row. */
function maskOf({ cache, tokens, positions, visible }: DevicePart, { window }: MaskKind): Tensor {
  const [count, before] = [tokens.length, cache.length];
  const total = before + count;
  const mask = new Float32Array(count * total);
  for (let i = 0; i < count; i++) {
    const row = mask.subarray(i * total, (i + 1) * total);
    if (visible) row.fill(UNSEEN, visible.counts[i]!, visible.shared);
    row.fill(UNSEEN, before + i + 1);
    if (window === undefined) continue;
    const last = positions[i]! - window;
    for (let column = 0; column < before; column++) if (cache.positions[column]! <= last) row[column] = UNSEEN;
    for (let own = 0; own < i; own++) if (positions[own]! <= last) row[before + own] = UNSEEN;
  }
  return new Tensor("float32", mask, [1, 1, count, total]);
}
