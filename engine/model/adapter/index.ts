import { existsSync } from "node:fs";
import { KvspliceError } from "../../../plan/index.js";
import type { Adapter } from "./adapter.js";
import { readGgufAdapter } from "./gguf-adapter.js";
import { readPeft } from "./peft.js";

export { WHERE, type Adapter, type LowRank, type Where } from "./adapter.js";

/**
 * Reads an adapter: a folder or a file of PEFT's safetensors, or a GGUF file of llama.cpp's.
 * @throws KvspliceError `bad_model` if there is none, or for what of it is not understood
 */
export async function readAdapter(path: string): Promise<Adapter> {
  if (!existsSync(path)) throw new KvspliceError("bad_model", `${path} does not exist. Give a folder of PEFT's, a .safetensors file or a .gguf file.`);
  return path.endsWith(".gguf") ? readGgufAdapter(path) : readPeft(path);
}
