import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { KvspliceError } from "../../../plan/index.js";
import { readFully } from "../../../storage/index.js";
import { bytesOfValues, openSafetensors, type StoredTensor } from "../files/huggingface/safetensors.js";
import { dequantize } from "../tensors/index.js";
import { type Adapter, type LowRank, WHERE, type Where } from "./adapter.js";

const CONFIG = "adapter_config.json";
const WEIGHTS = "adapter_model.safetensors";

/** PEFT's name of a weight, `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`. */
const TENSOR = /(?:^|\.)layers\.(?<layer>\d+)\.(?:self_attn|mlp)\.(?<module>\w+)\.lora_(?<factor>[AB])(?:\.default)?\.weight$/;

/** GGUF's names of the weights. */
const MODULES: Readonly<Record<string, string>> = {
  q_proj: "attn_q",
  k_proj: "attn_k",
  v_proj: "attn_v",
  qkv_proj: "attn_qkv",
  o_proj: "attn_output",
  gate_proj: "ffn_gate",
  up_proj: "ffn_up",
  gate_up_proj: "ffn_up",
  down_proj: "ffn_down",
};

/** PEFT settings that change what an adapter computes and are not supported here. */
const REFUSED = [
  "use_dora",
  "fan_in_fan_out",
  "modules_to_save",
  "rank_pattern",
  "alpha_pattern",
  "layer_replication",
  "trainable_token_indices",
] as const;

type Settings = Readonly<Partial<Record<string, unknown>>>;

/**
 * Reads a PEFT adapter: a folder, or its safetensors file with `adapter_config.json` next to it. `kvsplice_where` in the
 * settings determines the passes it acts on; without it, an adapter acts on all.
 *
 * @throws KvspliceError `bad_model` naming what is not supported
 */
export function readPeft(path: string): Adapter {
  const folder = statSync(path).isDirectory() ? path : dirname(path);
  const weights = folder === path ? join(path, WEIGHTS) : path;
  const settings = readSettings(join(folder, CONFIG));
  const file = openSafetensors(weights);
  try {
    const factors = new Map<string, { A?: StoredTensor; B?: StoredTensor }>();
    for (const name of file.names) {
      const { layer, module, factor } = TENSOR.exec(name)?.groups ?? {};
      const own = module !== undefined && Object.hasOwn(MODULES, module) ? MODULES[module] : undefined;
      if (own === undefined)
        throw new KvspliceError("bad_model", `${weights} has ${name}, which is not supported. Train an adapter of linear layers only.`);
      const weight = `blk.${layer}.${own}.weight`;
      factors.set(weight, { ...factors.get(weight), [factor!]: file.tensor(name) });
    }
    const pairs = new Map([...factors].map(([name, pair]) => [name, pairOf(weights, name, pair)]));
    if (pairs.size === 0) throw new KvspliceError("bad_model", `${weights} has no adapter weights.`);
    const rank = Math.max(...[...pairs.values()].map((pair) => pair.rank));
    const alpha = Number(settings["lora_alpha"] ?? rank);
    const scale = alpha / (settings["use_rslora"] === true ? Math.sqrt(rank) : rank);
    const id = createHash("sha256").update(readFileSync(weights)).update(`${scale}`).digest("hex");
    return { name: basename(path), id, where: whereOf(settings), scale, rowOrder: "transformers", pairs };
  } finally {
    file.close();
  }
}

function readSettings(path: string): Settings {
  if (!existsSync(path))
    throw new KvspliceError("bad_model", `${path} is missing: it gives the adapter's scale. Copy it next to the weights.`);
  let settings: Settings;
  try {
    settings = JSON.parse(readFileSync(path, "utf8")) as Settings;
  } catch (cause) {
    throw new KvspliceError("bad_model", `${path} is not JSON. Copy it again.`, { cause });
  }
  if (settings["peft_type"] !== "LORA")
    throw new KvspliceError("bad_model", `${path} is of type ${String(settings["peft_type"])}; only LORA is supported.`);
  const refused = REFUSED.find((name) => isSet(settings[name]));
  if (refused !== undefined)
    throw new KvspliceError("bad_model", `${path} sets ${refused}, which is not supported. Train an adapter without it.`);
  if (settings["bias"] !== undefined && settings["bias"] !== "none")
    throw new KvspliceError("bad_model", `${path} trains biases, which is not supported. Train an adapter with bias "none".`);
  return settings;
}

function isSet(value: unknown): boolean {
  if (value === null || value === undefined || value === false) return false;
  return typeof value === "object" ? Object.keys(value).length > 0 : true;
}

function whereOf(settings: Settings): Where {
  const where = settings["kvsplice_where"] ?? "both";
  const known = WHERE.find((each) => each === where);
  if (known === undefined)
    throw new KvspliceError("bad_model", `kvsplice_where of the adapter is ${String(where)}; it must be ${WHERE.join(" or ")}.`);
  return known;
}

function pairOf(path: string, name: string, { A, B }: { readonly A?: StoredTensor; readonly B?: StoredTensor }): LowRank {
  if (!A || !B) throw new KvspliceError("bad_model", `${path} lacks lora_${A ? "B" : "A"} of ${name}. Copy it again.`);
  const [rank, columns] = A.shape as [number, number];
  const [rows, ownRank] = B.shape as [number, number];
  if (rank !== ownRank)
    throw new KvspliceError("bad_model", `The factors of ${name} in ${path} have ranks ${rank} and ${ownRank}. Copy it again.`);
  return { rank, a: valuesOf(A), b: valuesOf(B), rows, columns };
}

function valuesOf({ file, path, type, shape, offset }: StoredTensor): Float32Array {
  const bytes = readFully(
    file,
    offset,
    bytesOfValues(
      type,
      shape.reduce((a, b) => a * b, 1),
    ),
  );
  if (!bytes) throw new KvspliceError("bad_model", `${path} is cut short. Copy it again.`);
  return dequantize({ name: path, type, shape, bytes });
}
