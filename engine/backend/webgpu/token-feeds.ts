import { Tensor } from "../../../runtime/index.js";
import type { RotaryTable } from "../../kv/rotary.js";
import type { Embedding } from "../cpu/embedding.js";

/** The tokens' embeddings, `[1, tokens, hidden]`. */
export function embeddingsOf(embedding: Embedding, hidden: number, tokens: readonly number[]): Tensor {
  const values = new Float32Array(tokens.length * hidden);
  embedding.gather(tokens, values);
  return new Tensor("float32", values, [1, tokens.length, hidden]);
}

/** The angles of positions, `cos.r` and `sin.r` `[positions, dimensions / 2]` for each kind of rotary embedding. */
export function anglesOf(tables: readonly RotaryTable[], positions: readonly number[]): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {};
  tables.forEach((table, r) => {
    const { half } = table;
    const angles = { cos: new Float32Array(positions.length * half), sin: new Float32Array(positions.length * half) };
    positions.forEach((position, i) => {
      const row = table.row(position);
      angles.cos.set(row.subarray(0, half), i * half);
      angles.sin.set(row.subarray(half), i * half);
    });
    for (const name of ["cos", "sin"] as const) feeds[`${name}.${r}`] = new Tensor("float32", angles[name], [positions.length, half]);
  });
  return feeds;
}
