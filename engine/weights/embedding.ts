import { BLOCK_SIZE, dequantize, halfToFloat } from "./quant.js";
import type { RawTensor } from "./gguf.js";

/** The token embedding, gathered row by row. Q8_0 rows stay quantised: no float copy of the table exists. */
export type Embedding = {
  /** Writes the rows of `ids` into `out`, `[ids.length, hidden]`. */
  gather(ids: readonly number[], out: Float32Array): void;
};

export function createEmbedding(tensor: RawTensor): Embedding {
  const hidden = tensor.shape[1]!;
  if (tensor.type !== "Q8_0") {
    const table = dequantize(tensor);
    return {
      gather(ids, out) {
        ids.forEach((id, i) => out.set(table.subarray(id * hidden, (id + 1) * hidden), i * hidden));
      },
    };
  }
  const rowBytes = (hidden / BLOCK_SIZE) * 34;
  const { bytes } = tensor;
  const values = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    gather(ids, out) {
      let to = 0;
      for (const id of ids) {
        for (let block = 0; block < hidden / BLOCK_SIZE; block++) {
          const from = id * rowBytes + block * 34;
          const scale = halfToFloat(bytes[from]! | (bytes[from + 1]! << 8));
          for (let j = 0; j < BLOCK_SIZE; j++) out[to++] = values[from + 2 + j]! * scale;
        }
      }
    },
  };
}
