import type { LayerShape } from "../../kv/form.js";
import { type Code, f32x4, get, i8x16, i16x8, i32, i32x4, increase, repeat, set, v128, type WasmFunction, wasmModule } from "./wasm.js";

/**
 * The inner loops between stored KV and a cache, in WebAssembly with 128-bit SIMD. Arguments are addresses in the memory
 * that the kernels were created for; every count is at least 1.
 *
 * `rotate_*` read K of some tokens, `[tokens, heads, head_size]`, widen it to float32, and apply the rotary embedding of its
 * token to the first `2 * half` dimensions of each head; the others are copied. `angles` is `[tokens, 2, half]`,
 * cosines and sines; `scales` is `[heads, head_size]`. `widen_*` read `[rows, head_size]`; `scales` is `[rows]`.
 * `narrow_*` convert back from float32: to the nearest float16, with larger values becoming the largest; to int8
 * with a scale for each channel (`scales` is 0 beforehand) or each row, 1/127 of its largest magnitude.
 */
export type Kernels = {
  rotate_float32(from: number, to: number, angles: number, tokens: number): void;
  rotate_float16(from: number, to: number, angles: number, tokens: number): void;
  rotate_int8(from: number, to: number, angles: number, tokens: number, scales: number): void;
  widen_float16(from: number, to: number, rows: number): void;
  widen_int8(from: number, to: number, rows: number, scales: number): void;
  narrow_float16(from: number, to: number, rows: number): void;
  narrow_int8_channels(from: number, to: number, tokens: number, scales: number): void;
  narrow_int8_rows(from: number, to: number, rows: number, scales: number): void;
};

/** Compiled once for each shape, because compiling takes longer than a splice. */
const modules = new Map<string, WebAssembly.Module>();

/**
 * Makes the kernels for one shape; their loops over a head are unrolled.
 * @param half pairs of dimensions of a head that are rotated; at most half of the head, 0 for none
 */
export function createKernels(memory: WebAssembly.Memory, { heads, headSize }: LayerShape, half: number): Kernels {
  const shape = `${heads} ${headSize} ${half}`;
  const module = modules.get(shape) ?? compile(heads, headSize, half);
  modules.set(shape, module);
  return new WebAssembly.Instance(module, { env: { memory } }).exports as Kernels;
}

function compile(heads: number, headSize: number, half: number): WebAssembly.Module {
  const bytes = wasmModule([
    rotate("rotate_float32", float32, heads, headSize, half),
    rotate("rotate_float16", float16, heads, headSize, half),
    rotate("rotate_int8", int8, heads, headSize, half),
    widen("widen_float16", float16, headSize),
    widen("widen_int8", int8, headSize),
    narrowFloat16(headSize),
    narrowInt8Channels(heads, headSize),
    narrowInt8Rows(headSize),
  ]);
  return new WebAssembly.Module(bytes);
}

/** Neighbouring values of a row that are processed together, from value `at` on: two vectors of float32, or one lane. */
type Run = { readonly at: number; readonly lanes: 8 | 1 };

/** Runs that cover `[from, to)`: the last may overlap the previous one; ranges shorter than a run go value by value. */
function runs(from: number, to: number): Run[] {
  const length = to - from;
  if (length < 8) return Array.from({ length }, (_, i) => ({ at: from + i, lanes: 1 }));
  return Array.from({ length: Math.ceil(length / 8) }, (_, i) => ({ at: from + Math.min(8 * i, length - 8), lanes: 8 }));
}

/** Byte offsets of the float32 vectors of a run in their row. */
function vectorsOf({ at, lanes }: Run): number[] {
  return lanes === 8 ? [4 * at, 4 * at + 16] : [4 * at];
}

function loadFloats({ lanes }: Run, address: Code, offset: number): Code {
  return lanes === 8 ? v128.load(address, offset) : v128.load32_splat(address, offset);
}

function storeFloats({ lanes }: Run, address: Code, offset: number, value: Code): Code {
  return lanes === 8 ? v128.store(address, offset, value) : v128.store32_lane(address, offset, value);
}

/** How values are stored, and how a run of them becomes vectors of float32. */
type Form = {
  readonly bytes: number;
  /** Whether the values are multiples of a scale. */
  readonly scaled: boolean;
  /** Reads a run of a row; may use the v128 local `spare`. */
  read(row: Code, run: Run, spare: number): { readonly before: Code; readonly vectors: readonly Code[] };
};

const float32: Form = {
  bytes: 4,
  scaled: false,
  read: (row, run) => ({ before: [], vectors: vectorsOf(run).map((offset) => loadFloats(run, row, offset)) }),
};

const float16: Form = {
  bytes: 2,
  scaled: false,
  read(row, { at, lanes }) {
    const bits =
      lanes === 8
        ? [v128.load16x4_u(row, 2 * at), v128.load16x4_u(row, 2 * at + 8)]
        : [i32x4.extend_low_i16x8_u(v128.load16_splat(row, 2 * at))];
    return { before: [], vectors: bits.map(widenFloat16) };
  },
};

const int8: Form = {
  bytes: 1,
  scaled: true,
  read(row, { at, lanes }, spare) {
    const low = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(get(spare)));
    if (lanes === 1) return { before: set(spare, i16x8.extend_low_i8x16_s(v128.load8_splat(row, at))), vectors: [low] };
    return { before: set(spare, v128.load8x8_s(row, at)), vectors: [low, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(get(spare)))] };
  },
};

/**
 * Sign, exponent and fraction of a float16 moved to their places in a float32; multiplying by 2^112 then corrects
 * the exponent's bias (127 - 15), also for subnormal numbers.
 */
function widenFloat16(bits: Code): Code {
  const placed = v128.and(i32x4.shr_s(i32x4.shl(bits, 16), 3), i32x4.splat(0x8fff_ffff));
  const twoTo112 = i32x4.splat((112 + 127) << 23);
  return f32x4.mul(placed, twoTo112);
}

function rotate(name: string, form: Form, heads: number, headSize: number, half: number): WasmFunction {
  const [from, to, angles, tokens, scales] = [0, 1, 2, 3, 4] as const;
  const [head, scale, spare, x, y] = [5, 6, 7, 8, 10] as const; // x and y are two vectors each
  const widened = (run: Run, into: number): Code => {
    const { before, vectors } = form.read(get(from), run, spare);
    const offsets = vectorsOf(run);
    const scaled = (value: Code, i: number) => (form.scaled ? f32x4.mul(value, loadFloats(run, get(scale), offsets[i]!)) : value);
    return [...before, ...vectors.flatMap((value, i) => set(into + i, scaled(value, i)))];
  };
  const turned = (run: Run): Code =>
    vectorsOf(run).flatMap((offset, i) => {
      const [a, b] = [get(x + i), get(y + i)];
      const [cos, sin] = [loadFloats(run, get(angles), offset), loadFloats(run, get(angles), 4 * half + offset)];
      return [
        ...storeFloats(run, get(to), offset, f32x4.sub(f32x4.mul(a, cos), f32x4.mul(b, sin))),
        ...storeFloats(run, get(to), 4 * half + offset, f32x4.add(f32x4.mul(b, cos), f32x4.mul(a, sin))),
      ];
    });
  const copied = (run: Run): Code => [
    ...widened(run, x),
    ...vectorsOf(run).flatMap((offset, i) => storeFloats(run, get(to), offset, get(x + i))),
  ];
  const oneHead = [
    ...runs(0, half).flatMap((run) => [...widened(run, x), ...widened({ ...run, at: half + run.at }, y), ...turned(run)]),
    ...runs(2 * half, headSize).flatMap(copied),
  ];
  const oneToken = [
    ...set(head, i32(heads)),
    ...set(scale, get(scales)),
    ...repeat(head, [
      ...oneHead,
      ...increase(from, form.bytes * headSize),
      ...increase(to, 4 * headSize),
      ...increase(scale, 4 * headSize),
    ]),
    ...increase(angles, 8 * half),
  ];
  return { name, parameters: 5, locals: ["i32", "i32", "v128", "v128", "v128", "v128", "v128"], body: repeat(tokens, oneToken) };
}

function widen(name: string, form: Form, headSize: number): WasmFunction {
  const [from, to, rows, scales] = [0, 1, 2, 3] as const;
  const [scale, spare] = [4, 5] as const;
  const scaled = (value: Code) => (form.scaled ? f32x4.mul(value, get(scale)) : value);
  const oneRow = runs(0, headSize).flatMap((run) => {
    const { before, vectors } = form.read(get(from), run, spare);
    return [...before, ...vectorsOf(run).flatMap((offset, i) => storeFloats(run, get(to), offset, scaled(vectors[i]!)))];
  });
  const nextScale = [...set(scale, v128.load32_splat(get(scales))), ...increase(scales, 4)];
  return {
    name,
    parameters: 4,
    locals: ["v128", "v128"],
    body: repeat(rows, [
      ...(form.scaled ? nextScale : []),
      ...oneRow,
      ...increase(from, form.bytes * headSize),
      ...increase(to, 4 * headSize),
    ]),
  };
}

function narrowFloat16(headSize: number): WasmFunction {
  const [from, to, rows] = [0, 1, 2] as const;
  const [word, magnitude] = [3, 4] as const;
  const narrowed = (run: Run, offset: number, into: number): Code => {
    const normal = i32x4.sub(
      i32x4.add(get(magnitude), i32x4.add(i32x4.splat(0xfff), oddBit(get(magnitude)))),
      i32x4.splat((127 - 15) << 23),
    );
    // Below 2^-14, float16 are multiples of 2^-24, which is the unit in the last place of numbers near one half.
    const subnormal = i32x4.sub(f32x4.add(get(magnitude), f32x4.splat(0.5)), f32x4.splat(0.5));
    const isSubnormal = i32x4.lt_s(get(magnitude), f32x4.splat(2 ** -14));
    const sign = v128.and(i32x4.shr_u(get(word), 16), i32x4.splat(0x8000));
    return [
      ...set(word, loadFloats(run, get(from), offset)),
      ...set(magnitude, i32x4.min_s(v128.and(get(word), i32x4.splat(0x7fff_ffff)), f32x4.splat(65_504))),
      ...set(into, v128.or(sign, v128.bitselect(subnormal, i32x4.shr_u(normal, 13), isSubnormal))),
    ];
  };
  const [low, high] = [5, 6] as const;
  const oneRow = runs(0, headSize).flatMap((run) => {
    const store = run.lanes === 8 ? v128.store : v128.store16_lane;
    return [
      ...vectorsOf(run).flatMap((offset, i) => narrowed(run, offset, low + i)),
      ...store(get(to), 2 * run.at, i16x8.narrow_i32x4_u(get(low), get(high))),
    ];
  });
  const body = repeat(rows, [...oneRow, ...increase(from, 4 * headSize), ...increase(to, 2 * headSize)]);
  return { name: "narrow_float16", parameters: 3, locals: ["v128", "v128", "v128", "v128"], body };
}

/** The bit that decides a tie between two float16: ties go to even. */
function oddBit(bits: Code): Code {
  return v128.and(i32x4.shr_u(bits, 13), i32x4.splat(1));
}

function narrowInt8Channels(heads: number, headSize: number): WasmFunction {
  const [from, to, tokens, scales] = [0, 1, 2, 3] as const;
  const [row, count, head, scale, packed] = [4, 5, 6, 7, 8] as const;
  const overAllHeads = (oneHead: Code): Code => [
    ...set(row, get(from)),
    ...set(count, get(tokens)),
    ...repeat(count, [
      ...set(head, i32(heads)),
      ...set(scale, get(scales)),
      ...repeat(head, [...oneHead, ...increase(row, 4 * headSize), ...increase(scale, 4 * headSize)]),
    ]),
  ];
  const enlarge = (run: Run, offset: number) =>
    storeFloats(run, get(scale), offset, f32x4.max(loadFloats(run, get(scale), offset), step(loadFloats(run, get(row), offset))));
  const largest = runs(0, headSize).flatMap((run) => vectorsOf(run).flatMap((offset) => enlarge(run, offset)));
  const narrowed = runs(0, headSize).flatMap((run) => storeInt8(row, to, run, packed, (offset) => loadFloats(run, get(scale), offset)));
  const body = [...overAllHeads(largest), ...overAllHeads([...narrowed, ...increase(to, headSize)])];
  return { name: "narrow_int8_channels", parameters: 4, locals: ["i32", "i32", "i32", "i32", "v128"], body };
}

function narrowInt8Rows(headSize: number): WasmFunction {
  const [from, to, rows, scales] = [0, 1, 2, 3] as const;
  const [scale, packed] = [4, 5] as const;
  const enlarge = (value: Code) => set(scale, f32x4.max(get(scale), value));
  const largest = runs(0, headSize).flatMap((run) => vectorsOf(run).flatMap((offset) => enlarge(step(loadFloats(run, get(from), offset)))));
  const inAllLanes = [...enlarge(i32x4.shuffle(get(scale), [1, 0, 3, 2])), ...enlarge(i32x4.shuffle(get(scale), [2, 3, 0, 1]))];
  const narrowed = runs(0, headSize).flatMap((run) => storeInt8(from, to, run, packed, () => get(scale)));
  const oneRow = [...set(scale, f32x4.splat(0)), ...largest, ...inAllLanes, ...v128.store32_lane(get(scales), 0, get(scale)), ...narrowed];
  const body = repeat(rows, [...oneRow, ...increase(scales, 4), ...increase(from, 4 * headSize), ...increase(to, headSize)]);
  return { name: "narrow_int8_rows", parameters: 4, locals: ["v128", "v128"], body };
}

/** The scale that makes a value 127 or -127. */
function step(value: Code): Code {
  return f32x4.mul(f32x4.abs(value), f32x4.splat(1 / 127));
}

/** A run of a row divided by its scales, to the nearest int8; if the scale is 0, so is the value. */
function storeInt8(row: number, to: number, run: Run, packed: number, scale: (offset: number) => Code): Code {
  const whole = vectorsOf(run).map((offset) =>
    i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.div(loadFloats(run, get(row), offset), scale(offset)))),
  );
  const store = run.lanes === 8 ? v128.store64_lane : v128.store8_lane;
  return [
    ...set(packed, i16x8.narrow_i32x4_s(whole[0]!, whole.at(-1)!)),
    ...store(get(to), run.at, i8x16.narrow_i16x8_s(get(packed), get(packed))),
  ];
}
