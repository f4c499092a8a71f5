import type { Adapter } from "../../model/adapter/index.js";
import type { ScaledWeight } from "../cpu/arithmetic.js";

/**
 * Adds what adapters change (LoRA, Hu et al. 2021) to the weights of a row: `scale * b a` of each adapter that changes this tensor.
 * @returns undefined if none does
 */
export function mergedWith(
  adapters: readonly Adapter[],
  { tensor, from, rowOrder }: ScaledWeight,
): ((row: number, weights: Float32Array) => void) | undefined {
  const changes = adapters.flatMap((adapter) => {
    const pair = adapter.pairs.get(tensor.name);
    return pair ? [{ ...adapter, pair }] : [];
  });
  if (changes.length === 0) return undefined;
  return (row, weights) => {
    for (const { pair, scale, rowOrder: order } of changes) {
      const { rank, a, b, columns } = pair;
      // Rows in transformers' order need no other: it is the graph's.
      const source = from + (order === "file" && rowOrder ? rowOrder[row]! : row);
      for (let r = 0; r < rank; r++) {
        const factor = scale * b[source * rank + r]!;
        for (let column = 0; column < columns; column++) weights[column]! += factor * a[r * columns + column]!;
      }
    }
  };
}
