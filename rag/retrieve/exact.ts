import type { Hit, VectorIndex } from "./vector-index.js";

const FIRST_ROWS = 256;

/** Compares a question with every vector: exact, with nothing to build. About 1 ms for 1,000 vectors of 384 dimensions. */
export class ExactIndex implements VectorIndex {
  /** `[rows, dimensions]`, with spare room for more rows. */
  private vectors: Float32Array;
  private readonly idOfRow: number[] = [];
  private readonly rowOfId = new Map<number, number>();

  constructor(readonly dimensions: number) {
    this.vectors = new Float32Array(FIRST_ROWS * dimensions);
  }

  ids(): Iterable<number> {
    return this.rowOfId.keys();
  }

  add(id: number, vector: Float32Array): void {
    const row = this.rowOfId.get(id) ?? this.idOfRow.length;
    if ((row + 1) * this.dimensions > this.vectors.length) {
      const wider = new Float32Array(this.vectors.length * 2);
      wider.set(this.vectors);
      this.vectors = wider;
    }
    this.vectors.set(vector, row * this.dimensions);
    this.idOfRow[row] = id;
    this.rowOfId.set(id, row);
  }

  /** The last row replaces the removed one. */
  remove(id: number): void {
    const row = this.rowOfId.get(id);
    if (row === undefined) return;
    const last = this.idOfRow.pop()!;
    this.rowOfId.delete(id);
    if (last === id) return;
    const from = this.idOfRow.length * this.dimensions;
    this.vectors.copyWithin(row * this.dimensions, from, from + this.dimensions);
    this.idOfRow[row] = last;
    this.rowOfId.set(last, row);
  }

  search(vector: Float32Array, count: number, accepts: (id: number) => boolean = () => true): Hit[] {
    const hits = this.idOfRow.flatMap((id, row) => (accepts(id) ? [{ id, score: this.product(vector, row * this.dimensions) }] : []));
    return hits.sort((a, b) => b.score - a.score || a.id - b.id).slice(0, count);
  }

  private product(vector: Float32Array, begin: number): number {
    let sum = 0;
    for (let i = 0; i < this.dimensions; i++) sum += vector[i]! * this.vectors[begin + i]!;
    return sum;
  }
}
