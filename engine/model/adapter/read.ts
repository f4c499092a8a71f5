import { existsSync } from "node:fs";
import { KvspliceError } from "../../../plan/index.js";
import type { Adapter } from "./adapter.js";
import { readGgufAdapter } from "./gguf-adapter.js";
import { readPeft } from "./peft.js";

/**
 * Reads an adapter: a PEFT folder or safetensors file, or a GGUF file from llama.cpp.
 * @throws KvspliceError `bad_model` if there is none, or naming what is not supported
 */
export async function readAdapter(path: string): Promise<Adapter> {
  if (!existsSync(path))
    throw new KvspliceError("bad_model", `${path} does not exist. Give a PEFT folder, a .safetensors file or a .gguf file.`);
  return path.endsWith(".gguf") ? readGgufAdapter(path) : readPeft(path);
}
