import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readAdapter } from "../../../../engine/index.js";
import { F32, type GgufTensor, writeGguf } from "../files/write-gguf.js";

/** Folder of tiny models (`NAME.gguf`) and their PEFT adapters (`NAME-adapter`). */
export const LINKING = fileURLToPath(new URL("../../../golden/linking/", import.meta.url));

/** Rows of Q or K in the order of llama.cpp's converter for Llama: the halves of each head alternating. */
function interleaved(values: Float32Array, rows: number, width: number, headSize: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const [head, i] = [Math.floor(row / headSize), row % headSize];
    const source = head * headSize + (i % 2) * (headSize / 2) + Math.floor(i / 2);
    out.set(values.subarray(source * width, (source + 1) * width), row * width);
  }
  return out;
}

/** A tiny model's adapter in the form that llama.cpp's `convert_lora_to_gguf.py` writes; returns its path. */
export async function writeGgufAdapter(folder: string, name: string, headSize: number): Promise<string> {
  const { pairs } = await readAdapter(join(LINKING, `${name}-adapter`));
  const tensors = [...pairs].flatMap(([weight, { a, b, rank, rows, columns }]): GgufTensor[] => {
    const turned = name === "llama" && /attn_[qk]\./.test(weight) ? interleaved(b, rows, rank, headSize) : b;
    const tensor = (factor: string, shape: number[], values: Float32Array) => ({
      name: `${weight}.lora_${factor}`,
      type: F32,
      shape,
      bytes: new Uint8Array(values.slice().buffer),
    });
    return [tensor("a", [columns, rank], a), tensor("b", [rank, rows], turned)];
  });
  const file = join(folder, `${name}-lora.gguf`);
  writeFileSync(
    file,
    writeGguf(
      {
        "general.architecture": { string: name },
        "general.type": { string: "adapter" },
        "adapter.type": { string: "lora" },
        "adapter.lora.alpha": { float32: 8 },
      },
      tensors,
    ),
  );
  return file;
}
