import { Tensor } from "../../../runtime/index.js";
import type { RotaryTable } from "../../kv/rotary.js";
import type { Embedding } from "../cpu/embedding.js";

/** Memory for the embeddings of tokens that have occurred. */
const KEPT_BYTES = 64 * 2 ** 20;

/** Embeddings of tokens. Reading one from the file takes long compared with what a device does meanwhile, so those seen first are kept. */
export class TokenEmbeddings {
  private readonly kept = new Map<number, Float32Array>();
  private readonly mostKept: number;

  constructor(
    private readonly embedding: Embedding,
    private readonly hidden: number,
  ) {
    this.mostKept = KEPT_BYTES / (Float32Array.BYTES_PER_ELEMENT * hidden);
  }

  /** `[1, tokens, hidden]` */
  of(tokens: readonly number[]): Tensor {
    const values = new Float32Array(tokens.length * this.hidden);
    tokens.forEach((token, i) => values.set(this.row(token), i * this.hidden));
    return new Tensor("float32", values, [1, tokens.length, this.hidden]);
  }

  private row(token: number): Float32Array {
    const known = this.kept.get(token);
    if (known) return known;
    const row = new Float32Array(this.hidden);
    this.embedding.gather([token], row);
    if (this.kept.size < this.mostKept) this.kept.set(token, row);
    return row;
  }
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
