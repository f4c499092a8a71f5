/** One hit: a chunk's id and its similarity; every list has the best first. */
export type Hit = { readonly id: number; readonly score: number };

/** Finds the nearest of many vectors of length 1. An id is a chunk's number, and always refers to the same vector. */
export interface VectorIndex {
  ids(): Iterable<number>;
  /** @param vector `[dimensions]`, of length 1 */
  add(id: number, vector: Float32Array): void;
  remove(id: number): void;
  /** At most `count` hits by inner product, which is the cosine for vectors of length 1; only those that `accepts` accepts, if given. */
  search(vector: Float32Array, count: number, accepts?: (id: number) => boolean): Hit[];
}
