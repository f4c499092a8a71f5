import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { filesUnder } from "./cache.js";
import { choose } from "./choose.js";
import type { ModelReference } from "./reference.js";
import type { HubSettings } from "./settings.js";

type HubReference = Extract<ModelReference, { kind: "hub" }>;
type OllamaReference = Extract<ModelReference, { kind: "ollama" }>;

const OLLAMA_REGISTRY = "registry.ollama.ai";
const OLLAMA_MODEL_LAYER = "application/vnd.ollama.image.model";

/** The path of a hub model that LM Studio or Ollama has already fetched. */
export function findOnShelves({ repo, revision, choice }: HubReference, settings: HubSettings): string | undefined {
  if (revision !== "main") return undefined; // neither records which revision it has
  if (choice.kind === "encoder" || choice.kind === "adapter") return undefined; // neither has ONNX encoders or separate adapters
  for (const root of settings.lmStudioDirs) {
    const folder = join(root, repo);
    const chosen = choose(filesUnder(folder), choice);
    if (chosen?.kind === "gguf") return join(folder, chosen.files[0]!);
  }
  if (choice.kind === "file") return undefined;
  const tag = choice.kind === "quantization" ? choice.label : "latest";
  return settings.ollamaDirs.map((root) => ollamaBlob(root, ["hf.co", ...repo.split("/"), tag])).find((path) => path !== undefined);
}

/** The path of an Ollama model. */
export function findInOllama({ name, tag }: OllamaReference, settings: HubSettings): string | undefined {
  const parts = name.split("/");
  const [registry, path] =
    parts.length > 2 ? [parts[0]!, parts.slice(1)] : [OLLAMA_REGISTRY, parts.length === 1 ? ["library", ...parts] : parts];
  return settings.ollamaDirs.map((root) => ollamaBlob(root, [registry, ...path, tag])).find((path) => path !== undefined);
}

/** All Ollama models on this machine. */
export function ollamaModels({ ollamaDirs }: HubSettings): readonly { readonly name: string; readonly path: string }[] {
  return ollamaDirs.flatMap((root) =>
    filesUnder(join(root, "manifests")).flatMap((manifest) => {
      const parts = manifest.split("/");
      const path = ollamaBlob(root, parts);
      return path === undefined ? [] : [{ name: ollamaName(parts), path }];
    }),
  );
}

function ollamaName(parts: readonly string[]): string {
  const [registry, ...rest] = parts;
  const tag = rest.pop()!;
  const name = registry === OLLAMA_REGISTRY ? rest.join("/").replace(/^library\//, "") : [registry, ...rest].join("/");
  return `ollama:${name}:${tag}`;
}

/** The model file that Ollama's manifest of this name refers to: `blobs/sha256-HASH`, a GGUF file. */
function ollamaBlob(root: string, name: readonly string[]): string | undefined {
  let manifest: unknown;
  try {
    manifest = JSON.parse(readFileSync(join(root, "manifests", ...name), "utf8"));
  } catch {
    return undefined;
  }
  const { layers } = manifest as { layers?: readonly { mediaType?: string; digest?: string }[] };
  const digest = Array.isArray(layers) ? layers.find(({ mediaType }) => mediaType === OLLAMA_MODEL_LAYER)?.digest : undefined;
  if (digest === undefined || !/^sha256:[0-9a-f]{64}$/.test(digest)) return undefined;
  const path = join(root, "blobs", digest.replace(":", "-"));
  return existsSync(path) ? path : undefined;
}
