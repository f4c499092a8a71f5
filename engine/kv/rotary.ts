/**
 * The lookup table of rotary embedding (Su et al. 2021): cosines and sines of every position and frequency,
 * `[positions, headSize / 2]` each. Dimension i of a head turns together with dimension i + headSize / 2. The graph and
 * the splice read the same table.
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
