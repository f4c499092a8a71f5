/**
 * The model and the embedder as separate packages, which `carriedFile` finds by name, so that upgrading kvsplice does not
 * download them again. Their versions only change with the files.
 */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";

import { writeManifest } from "./manifest.js";

const PACKAGES = [
  {
    name: "@kvsplice/model-135m",
    version: "1.0.0",
    description: "The language model of kvsplice: SmolLM2-135M-Instruct, fine-tuned to answer from documents that were encoded separately.",
    files: ["kvsplice-135m.gguf", "kvsplice-135m.json"],
  },
  {
    name: "@kvsplice/embedder-minilm",
    version: "1.0.0",
    description: "The sentence encoder of kvsplice: all-MiniLM-L6-v2 in ONNX with int8 weights.",
    files: ["minilm-l6-v2-int8.onnx", "minilm-l6-v2-tokenizer.json"],
  },
];

/** Writes the packages' folders into `target`. @@returns the folders, and the dependencies of a published package on them */
export async function writeDataPackages(
  models: string,
  target: string,
): Promise<{ folders: string[]; dependencies: Record<string, string> }> {
  const folders: string[] = [];
  for (const { files, ...manifest } of PACKAGES) {
    const folder = join(target, manifest.name.split("/")[1]!);
    await mkdir(folder, { recursive: true });
    for (const file of [...files, "NOTICE.md"]) await cp(join(models, file), join(folder, file));
    // Native code maps the files into memory, so Yarn must not leave them in an archive.
    await writeManifest(folder, { ...manifest, license: "Apache-2.0", preferUnplugged: true });
    folders.push(folder);
  }
  return { folders, dependencies: Object.fromEntries(PACKAGES.map(({ name, version }) => [name, version])) };
}
