import type { ModelFile } from "../../model/files/model-file.js";
import { dequantize } from "../../model/tensors/index.js";

const TENSOR = "token_embd.weight";

/** The token embedding: its rows are read from the model's file when needed, and take no memory. */
export class Embedding {
  constructor(private readonly file: ModelFile) {}

  /** Writes the rows of `ids` into `out`, `[ids.length, hidden]`. */
  gather(ids: readonly number[], out: Float32Array): void {
    let at = 0;
    for (const id of ids) {
      const row = dequantize(this.file.rows(TENSOR, id, 1));
      out.set(row, at);
      at += row.length;
    }
  }
}
