/**
 * One kind of rotary embedding (Su et al. 2021): at position p, dimension i of a head is rotated together with dimension
 * i + dimensions / 2 by the angle p * frequencies[i]; dimensions from `dimensions` on stay as they are.
 */
export type RotarySpec = {
  readonly dimensions: number;
  /** Radians per position, `[dimensions / 2]`. */
  readonly frequencies: readonly number[];
  /**
   * Factor on rotated queries and keys (YaRN's attention factor). Only products of the two matter, so its square is applied to
   * the queries, and the keys, which blocks contain, are only rotated.
   */
  readonly magnitude: number;
};

/** Positions computed at a time. */
const CHUNK = 256;

/** The lookup table of one kind: computed where it is read, and extended with use. Passes and splices read the same values. */
export class RotaryTable {
  readonly half: number;
  private readonly chunks = new Map<number, Float32Array>();

  constructor(private readonly frequencies: readonly number[]) {
    this.half = frequencies.length;
  }

  /** For one position, the cosines `[half]`, then the sines `[half]`; read-only. */
  row(position: number): Float32Array {
    const index = Math.floor(position / CHUNK);
    let chunk = this.chunks.get(index);
    if (!chunk) this.chunks.set(index, (chunk = this.compute(index * CHUNK)));
    const at = (position - index * CHUNK) * 2 * this.half;
    return chunk.subarray(at, at + 2 * this.half);
  }

  private compute(start: number): Float32Array {
    const { frequencies, half } = this;
    const chunk = new Float32Array(CHUNK * 2 * half);
    for (let p = 0, at = 0; p < CHUNK; p++, at += 2 * half) {
      for (let i = 0; i < half; i++) {
        const angle = (start + p) * frequencies[i]!;
        chunk[at + i] = Math.cos(angle);
        chunk[at + half + i] = Math.sin(angle);
      }
    }
    return chunk;
  }
}

/** A head's frequencies: base^(-2i / dimensions). */
export function rotaryFrequencies(dimensions: number, base: number): number[] {
  return Array.from({ length: dimensions / 2 }, (_, i) => base ** ((-2 * i) / dimensions));
}
