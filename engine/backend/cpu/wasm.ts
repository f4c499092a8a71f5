/**
 * Writes WebAssembly, as far as the splice kernels need it. An instruction is its bytes, and operands come before
 * their operator, so nested calls read like the expression that they write.
 * The numbers are those of the WebAssembly core specification 2.0, sections 5.3 to 5.5.
 */
export type Code = readonly number[];

export type ValueType = "i32" | "v128";

const TYPES: Record<ValueType, number> = { i32: 0x7f, v128: 0x7b };

/** A function of i32 parameters that returns nothing. Locals are numbered after the parameters. */
export type WasmFunction = {
  readonly name: string;
  readonly parameters: number;
  readonly locals: readonly ValueType[];
  readonly body: Code;
};

type Unary = (a: Code) => Code;
type Binary = (a: Code, b: Code) => Code;

const simd = (opcode: number): Code => [0xfd, ...unsigned(opcode)];
const unary =
  (opcode: number): Unary =>
  (a) => [...a, ...simd(opcode)];
const binary =
  (opcode: number): Binary =>
  (a, b) => [...a, ...b, ...simd(opcode)];
const shift =
  (opcode: number) =>
  (a: Code, bits: number): Code => [...a, ...i32(bits), ...simd(opcode)];
/** Reads at `offset` bytes after an address, with any alignment. */
const load =
  (opcode: number) =>
  (address: Code, offset = 0): Code => [...address, ...simd(opcode), 0, ...unsigned(offset)];
/** Writes the first lane. */
const storeLane =
  (opcode: number) =>
  (address: Code, offset: number, value: Code): Code => [...address, ...value, ...simd(opcode), 0, ...unsigned(offset), 0];

export const i32 = (value: number): Code => [0x41, ...signed(value)];

export const v128 = {
  load: load(0x00),
  /** Eight int8, as int16. */
  load8x8_s: load(0x01),
  /** Four uint16, as int32. */
  load16x4_u: load(0x04),
  /** One value in all lanes of its size. */
  load8_splat: load(0x07),
  load16_splat: load(0x08),
  load32_splat: load(0x09),
  store: (address: Code, offset: number, value: Code): Code => [...address, ...value, ...simd(0x0b), 0, ...unsigned(offset)],
  store8_lane: storeLane(0x58),
  store16_lane: storeLane(0x59),
  store32_lane: storeLane(0x5a),
  store64_lane: storeLane(0x5b),
  and: binary(0x4e),
  or: binary(0x50),
  /** Bits of `a` where the mask has ones, of `b` elsewhere. */
  bitselect: (a: Code, b: Code, mask: Code): Code => [...a, ...b, ...mask, ...simd(0x52)],
};

export const i8x16 = {
  narrow_i16x8_s: binary(0x65),
};

export const i16x8 = {
  extend_low_i8x16_s: unary(0x87),
  narrow_i32x4_s: binary(0x85),
  narrow_i32x4_u: binary(0x86),
};

export const i32x4 = {
  splat: (value: number): Code => [...i32(value | 0), ...simd(0x11)],
  extend_low_i16x8_s: unary(0xa7),
  extend_high_i16x8_s: unary(0xa8),
  extend_low_i16x8_u: unary(0xa9),
  shl: shift(0xab),
  shr_s: shift(0xac),
  shr_u: shift(0xad),
  add: binary(0xae),
  sub: binary(0xb1),
  min_s: binary(0xb6),
  lt_s: binary(0x39),
  trunc_sat_f32x4_s: unary(0xf8),
  /** The lanes in a different order. */
  shuffle: (a: Code, order: readonly number[]): Code => [
    ...a,
    ...a,
    ...simd(0x0d),
    ...order.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte)),
  ],
};

export const f32x4 = {
  splat: (value: number): Code => i32x4.splat(new Int32Array(Float32Array.of(value).buffer)[0]!),
  convert_i32x4_s: unary(0xfa),
  nearest: unary(0x6a),
  abs: unary(0xe0),
  add: binary(0xe4),
  sub: binary(0xe5),
  mul: binary(0xe6),
  div: binary(0xe7),
  max: binary(0xe9),
};

export const get = (local: number): Code => [0x20, ...unsigned(local)];
export const set = (local: number, value: Code): Code => [...value, 0x21, ...unsigned(local)];
export const increase = (local: number, by: number): Code => set(local, [...get(local), ...i32(by), 0x6a]);

/** Runs `body` as many times as the local says, at least once, and counts the local down to 0. */
export function repeat(count: number, body: Code): Code {
  const [loop, end, branchIf, tee, add] = [[0x03, 0x40], 0x0b, [0x0d, 0], 0x22, 0x6a];
  return [...loop, ...body, ...get(count), ...i32(-1), add, tee, ...unsigned(count), ...branchIf, end];
}

/** A module that uses the memory `env.memory`. */
export function wasmModule(functions: readonly WasmFunction[]): Uint8Array<ArrayBuffer> {
  const section = (id: number, items: readonly Code[]): Code => [id, ...sized([...unsigned(items.length), ...items.flat()])];
  const types = functions.map(({ parameters }) => [0x60, ...unsigned(parameters), ...Array<number>(parameters).fill(TYPES.i32), 0]);
  const memory = [...name("env"), ...name("memory"), 0x02, 0, 0];
  const exports = functions.map((each, i) => [...name(each.name), 0, ...unsigned(i)]);
  const bodies = functions.map(({ locals, body }) =>
    sized([...unsigned(locals.length), ...locals.flatMap((type) => [1, TYPES[type]]), ...body, 0x0b]),
  );
  const magic = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  const indices = functions.map((_, i) => unsigned(i));
  return Uint8Array.from(
    [magic, section(1, types), section(2, [memory]), section(3, indices), section(7, exports), section(10, bodies)].flat(),
  );
}

const sized = (bytes: Code): Code => [...unsigned(bytes.length), ...bytes];
const name = (text: string): Code => sized([...Buffer.from(text)]);

/** LEB128 */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): Code {
  return value >= -0x40 && value < 0x40 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)];
}
