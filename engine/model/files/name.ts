import { basename, dirname, resolve } from "node:path";
import type { ModelMetadata } from "./model-file.js";

/** A folder in Hugging Face's cache is named after a commit, and the one above it after the repository. */
const SNAPSHOT = /^[0-9a-f]{40}$/;
const REPOSITORY = /^models--(?:.+?)--(.+)$/;

/** Ollama names files by their hash. */
const HASH = /^sha256-[0-9a-f]{64}$/;

/** A model's display name: its file's name without GGUF suffix or part number, or the name of its folder or repository. */
export function modelName(path: string, metadata: ModelMetadata): string {
  const whole = resolve(path);
  const name = basename(whole);
  if (SNAPSHOT.test(name)) return REPOSITORY.exec(basename(dirname(dirname(whole))))?.[1] ?? name;
  if (HASH.test(name)) return String(metadata["general.name"] ?? name);
  return name.replace(/(-\d{5}-of-\d{5})?\.gguf$/i, "");
}
