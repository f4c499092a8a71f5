/** One hit: a chunk's id, and how near it is; the best first in every list. */
export type Hit = { readonly id: number; readonly score: number };

/** Finds the nearest of many vectors of length 1. An id is a chunk's number, and names the same vector for ever. */
export interface VectorIndex {
  ids(): Iterable<number>;
  /** @param vector `[dimensions]`, of length 1 */
  add(id: number, vector: Float32Array): void;
  remove(id: number): void;
  /** At most `count` hits by inner product, which is the cosine for vectors of length 1. */
  search(vector: Float32Array, count: number): Hit[];
}
