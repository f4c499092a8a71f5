import { basename } from "node:path";
import { KvspliceError } from "../../../plan/index.js";
import { openGguf } from "../files/gguf.js";
import { dequantize } from "../tensors/index.js";
import type { Adapter, LowRank } from "./adapter.js";

const FACTOR =
  /^(?<weight>blk\.\d+\.(?:attn_q|attn_k|attn_v|attn_qkv|attn_output|ffn_gate|ffn_up|ffn_down)\.weight)\.lora_(?<factor>[ab])$/;

/**
 * Reads an adapter in the form that llama.cpp's `convert_lora_to_gguf.py` writes. It acts on all passes.
 * @throws KvspliceError `bad_model` naming what is not supported
 */
export async function readGgufAdapter(path: string): Promise<Adapter> {
  const file = openGguf(path);
  try {
    const { metadata } = file;
    if (metadata["general.type"] !== "adapter" || metadata["adapter.type"] !== "lora") {
      throw new KvspliceError("bad_model", `${path} is not a low-rank adapter (its general.type is ${String(metadata["general.type"])}).`);
    }
    const pairs = new Map<string, LowRank>();
    for (const name of file.names()) {
      const { weight, factor } = FACTOR.exec(name)?.groups ?? {};
      if (weight === undefined)
        throw new KvspliceError("bad_model", `${path} has ${name}, which is not supported. Train an adapter of linear layers only.`);
      if (factor === "b") continue;
      const [a, b] = [file.tensor(name), file.tensor(`${weight}.lora_b`)];
      const [[rank, columns], [rows, ownRank]] = [a.shape as [number, number], b.shape as [number, number]];
      if (rank !== ownRank)
        throw new KvspliceError("bad_model", `The factors of ${weight} in ${path} have ranks ${rank} and ${ownRank}. Convert it again.`);
      pairs.set(weight, { rank, a: dequantize(a), b: dequantize(b), rows, columns });
    }
    if (pairs.size === 0) throw new KvspliceError("bad_model", `${path} has no adapter weights.`);
    const [rank, ...others] = new Set([...pairs.values()].map((pair) => pair.rank));
    if (others.length > 0)
      throw new KvspliceError(
        "bad_model",
        `${path} has weights of different ranks (${[rank, ...others].join(", ")}). Train an adapter with a single rank.`,
      );
    // As in llama.cpp: no alpha, or an alpha of 0, leaves the factors as they are.
    const scale = (Number(metadata["adapter.lora.alpha"]) || rank!) / rank!;
    return { name: basename(path), id: await file.contentHash(), where: "both", scale, rowOrder: "file", pairs };
  } finally {
    file.close();
  }
}
