/**
 * The lookup table of rotary embedding (Su et al. 2021): cosines and sines of every position and frequency,
 * `[positions, headSize / 2]` each. The graph and the splice read the same table.
 */
export type RotaryTable = {
  readonly positions: number;
  readonly half: number;
  readonly cos: Float32Array;
  readonly sin: Float32Array;
};

export function createRotaryTable(positions: number, headSize: number, base: number, factors?: Float32Array): RotaryTable {
  const half = headSize / 2;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let i = 0; i < half; i++) {
    const frequency = base ** (-i / half) / (factors?.[i] ?? 1);
    for (let position = 0; position < positions; position++) {
      cos[position * half + i] = Math.cos(position * frequency);
      sin[position * half + i] = Math.sin(position * frequency);
    }
  }
  return { positions, half, cos, sin };
}

/**
 * Re-encodes one token's K: gives every head of `from` its rotary embedding for `position` and writes it into `to`.
 * Dimension i of a head turns together with dimension i + headSize / 2.
 * @param width kvHeads * headSize
 */
export function rotate(table: RotaryTable, position: number, from: Float32Array, fromAt: number, to: Float32Array, toAt: number, width: number): void {
  const { half, cos, sin } = table;
  const row = position * half;
  for (let head = 0; head < width; head += 2 * half) {
    const a = fromAt + head;
    const b = toAt + head;
    for (let i = 0; i < half; i++) {
      const c = cos[row + i]!;
      const s = sin[row + i]!;
      const x = from[a + i]!;
      const y = from[a + half + i]!;
      to[b + i] = x * c - y * s;
      to[b + half + i] = y * c + x * s;
    }
  }
}

/** The way back of `rotate`: takes the rotary embedding of `position` from every head, by the opposite angle. */
export function unrotate(table: RotaryTable, position: number, from: Float32Array, fromAt: number, to: Float32Array, toAt: number, width: number): void {
  const { half, cos, sin } = table;
  const row = position * half;
  for (let head = 0; head < width; head += 2 * half) {
    const a = fromAt + head;
    const b = toAt + head;
    for (let i = 0; i < half; i++) {
      const c = cos[row + i]!;
      const s = sin[row + i]!;
      const x = from[a + i]!;
      const y = from[a + half + i]!;
      to[b + i] = x * c + y * s;
      to[b + half + i] = y * c - x * s;
    }
  }
}
