import { KvspliceError } from "../../../../plan/index.js";
import { readFully } from "../../../../storage/index.js";
import type { TensorType } from "../layout.js";
import { bytesOfValues, type StoredTensor, type StoredType } from "./safetensors.js";

/** A tensor that a checkpoint stores in another form: its values have `shape`, and are read a number of whole rows at a time. */
export type Derived = { readonly type: TensorType; readonly shape: readonly number[]; read(from: number, count: number): Uint8Array };

/** One matrix of each expert, one after the other. */
export function stacked(tensors: readonly StoredTensor[]): Derived {
  const { type, shape } = tensors[0]!;
  const length = elementsOf(shape);
  return {
    type,
    shape: [tensors.length, ...shape],
    read(from, count) {
      const parts: Uint8Array[] = [];
      for (let at = from; at < from + count; ) {
        const within = at % length;
        const part = Math.min(length - within, from + count - at);
        parts.push(readStored(tensors[Math.floor(at / length)]!, within, part));
        at += part;
      }
      return parts.length === 1 ? parts[0]! : new Uint8Array(Buffer.concat(parts));
    },
  };
}

/** gpt-oss's experts' `gate_up_proj` or `down_proj` as one tensor: `[experts, columns, rows]`, or MXFP4's blocks and scales. */
export type Fused = {
  readonly weight?: StoredTensor;
  /** `[experts, rows]` */
  readonly bias?: StoredTensor;
  /** `[experts, rows, columns / 32, 16]` */
  readonly blocks?: StoredTensor<"U8">;
  /** `[experts, rows, columns / 32]` */
  readonly scales?: StoredTensor<"U8">;
};

/** Which of a tensor's rows to take: those of gate and up alternate. */
type Rows = { readonly first: number; readonly step: number };

export type FusedName = { readonly layer: string; readonly part: keyof typeof PARTS; readonly what: keyof Fused };

const PARTS = {
  gate_up_proj: { ffn_gate_exps: { first: 0, step: 2 }, ffn_up_exps: { first: 1, step: 2 } },
  down_proj: { ffn_down_exps: { first: 0, step: 1 } },
} as const satisfies Readonly<Record<string, Readonly<Record<string, Rows>>>>;

/** Which part of gpt-oss's experts a tensor is, by its name. */
export function fusedName(name: string): FusedName | undefined {
  const [, layer, part, what = "weight"] =
    /^model\.layers\.(\d+)\.mlp\.experts\.(gate_up_proj|down_proj)(?:_(bias|blocks|scales))?$/.exec(name) ?? [];
  return layer === undefined ? undefined : { layer, part: part as FusedName["part"], what: what as FusedName["what"] };
}

/**
 * The tensors that GGUF has in place of a fused one, by their names in a layer.
 * @throws KvspliceError `bad_model` for shapes that do not belong together
 */
export function unfused(part: FusedName["part"], fused: Fused): Readonly<Record<string, Derived>> {
  mustBelongTogether(part, fused);
  const { weight, bias, blocks, scales } = fused;
  const made: Record<string, Derived> = {};
  for (const [name, rows] of Object.entries(PARTS[part]) as [string, Rows][]) {
    if (weight) made[`${name}.weight`] = transposed(weight, rows);
    if (blocks && scales) made[`${name}.weight`] = mxfp4(blocks, scales, rows);
    if (bias) made[`${name}.bias`] = everyNth(bias, rows);
  }
  return made;
}

function mustBelongTogether(part: FusedName["part"], { weight, bias, blocks, scales }: Fused): void {
  const whole = (weight?.shape.length ?? 3) === 3 && (bias?.shape.length ?? 2) === 2 && (blocks === undefined) === (scales === undefined);
  const packed =
    !blocks || (blocks.shape.length === 4 && blocks.shape[3] === 16 && String(blocks.shape.slice(0, 3)) === String(scales!.shape));
  const rows = [weight?.shape.at(-1), bias?.shape.at(-1), blocks?.shape[1]].filter((count) => count !== undefined);
  const even = part === "down_proj" || rows.every((count) => count % 2 === 0);
  const { path } = (weight ?? bias ?? blocks ?? scales)!;
  if (!whole || !packed || !even)
    throw new KvspliceError(
      "bad_model",
      `${path} is damaged: the parts of ${part} have shapes that do not belong together. Download it again.`,
    );
}

function transposed(tensor: StoredTensor, { first, step }: Rows): Derived {
  const [experts, columns, stored] = tensor.shape as [number, number, number];
  const rows = stored / step;
  const slabOf = lastRead(tensor, columns * stored);
  const bytes = bytesOfValues(tensor.type, 1);
  return {
    type: tensor.type,
    shape: [experts, rows, columns],
    read(from, count) {
      const out = valuesOf(new Uint8Array(count * bytes), bytes);
      for (let row = 0; row * columns < count; row++) {
        const at = from / columns + row;
        const slab = valuesOf(slabOf(Math.floor(at / rows)), bytes);
        const source = first + step * (at % rows);
        for (let column = 0; column < columns; column++) out[row * columns + column] = slab[column * stored + source]!;
      }
      return new Uint8Array(out.buffer);
    },
  };
}

/** MXFP4 in GGUF's layout: a block is its scale and 16 bytes; byte i has value i in its low half and value i + 16 in its high half. */
function mxfp4(blocks: StoredTensor<"U8">, scales: StoredTensor<"U8">, { first, step }: Rows): Derived {
  const [experts, stored, groups] = blocks.shape as [number, number, number];
  const rows = stored / step;
  const [blocksOf, scalesOf] = [lastRead(blocks, stored * groups * 16), lastRead(scales, stored * groups)];
  return {
    type: "MXFP4",
    shape: [experts, rows, groups * 32],
    read(from, count) {
      const out = new Uint8Array((count / 32) * 17);
      for (let block = 0; block * 32 < count; block++) {
        const at = from / 32 + block;
        const row = Math.floor(at / groups);
        const expert = Math.floor(row / rows);
        const source = (first + step * (row % rows)) * groups + (at % groups);
        const codes = blocksOf(expert).subarray(source * 16, source * 16 + 16);
        // Here byte i has values 2i and 2i + 1.
        const code = (value: number) => (codes[value >> 1]! >> (4 * (value & 1))) & 15;
        out[block * 17] = scalesOf(expert)[source]!;
        for (let i = 0; i < 16; i++) out[block * 17 + 1 + i] = code(i) | (code(i + 16) << 4);
      }
      return out;
    },
  };
}

function everyNth(bias: StoredTensor, { first, step }: Rows): Derived {
  const [experts, stored] = bias.shape as [number, number];
  const bytes = bytesOfValues(bias.type, 1);
  return {
    type: bias.type,
    shape: [experts, stored / step],
    read(from, count) {
      const source = valuesOf(readStored(bias, 0, experts * stored), bytes);
      const out = valuesOf(new Uint8Array(count * bytes), bytes);
      for (let i = 0; i < count; i++) out[i] = source[(from + i) * step + first]!;
      return new Uint8Array(out.buffer);
    },
  };
}

/** Reads an expert's part of a tensor, and keeps the last one: rows are requested a few at a time. */
function lastRead(tensor: StoredTensor<StoredType>, length: number): (expert: number) => Uint8Array {
  let last: { readonly expert: number; readonly bytes: Uint8Array } | undefined;
  return (expert) => {
    if (last?.expert !== expert) last = { expert, bytes: new Uint8Array(readStored(tensor, expert * length, length)) };
    return last.bytes;
  };
}

/** Values as integers of their size: they are moved, not computed with. */
function valuesOf({ buffer }: Uint8Array, bytes: number): Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer> {
  return bytes === 2 ? new Uint16Array(buffer as ArrayBuffer) : new Uint32Array(buffer as ArrayBuffer);
}

/** A tensor's values from `from` on. @throws KvspliceError `bad_model` if the file has been truncated in the meantime */
export function readStored({ file, path, type, offset }: StoredTensor<StoredType>, from: number, count: number): Uint8Array {
  const bytes = readFully(file, offset + bytesOfValues(type, from), bytesOfValues(type, count));
  if (!bytes) throw new KvspliceError("bad_model", `${path} became shorter while it was open. Copy the file again.`);
  return bytes;
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
