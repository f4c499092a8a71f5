import { KvspliceError } from "../../../plan/index.js";
import { type HeldModel, heldModels, isHeldSound } from "./held.js";
import { type PullOptions, type PullProgress, pull } from "./pull.js";
import { parseReference } from "./reference.js";
import { hubSettings } from "./settings.js";

export { removeHeld } from "./held.js";
export type { PullProgress };
export { type HeldModel, isHeldSound };

/**
 * The path of a model on this machine, for `loadModel`; fetches it first if it is not here yet.
 *
 * @param name `hf:OWNER/NAME:QUANTISATION`, an address, `ollama:NAME:TAG`, or a path, which is returned as it is
 * @throws KvspliceError `bad_argument` if there is no such model, `unreachable`, `bad_file` if the download is not what the hub
 *   promised, `no_space`, `cancelled`
 */
export async function pullModel(name: string, options: Omit<PullOptions, "settings"> = {}): Promise<string> {
  const settings = hubSettings();
  return pull(parseReference(name, settings.endpoint), { ...options, settings });
}

/**
 * The path of a sentence encoder's ONNX on this machine, with its tokenizer next to it or one folder up; fetches it first if it
 * is not here yet.
 *
 * @param name `hf:OWNER/NAME`, or with the ONNX, as in `hf:OWNER/NAME:onnx/model.onnx`; a path is returned as it is
 * @param usual the paths to look for if the name has none, best first
 * @throws as `pullModel` does
 */
export async function pullEncoder(name: string, usual: readonly string[], options: Omit<PullOptions, "settings"> = {}): Promise<string> {
  const settings = hubSettings();
  const reference = parseReference(name, settings.endpoint);
  if (reference.kind === "path") return reference.path;
  if (reference.kind !== "hub")
    throw new KvspliceError(
      "bad_argument",
      `${name} is not a sentence encoder. Name a folder with an ONNX and its tokenizer.json, or hf:OWNER/NAME.`,
    );
  const paths = reference.choice.kind === "quantization" ? [reference.choice.label] : usual;
  return pull({ ...reference, choice: { kind: "encoder", paths } }, { ...options, settings });
}

/**
 * The path of an adapter on this machine, for `loadModel`; fetches it first if it is not here yet.
 *
 * @param name `hf:OWNER/NAME`, with `:FOLDER` or `:FILE.gguf` if the repository has several; an address; or a path, which is
 *   returned unchanged
 * @throws as `pullModel` does
 */
export async function pullAdapter(name: string, options: Omit<PullOptions, "settings"> = {}): Promise<string> {
  const settings = hubSettings();
  const reference = parseReference(name, settings.endpoint);
  if (reference.kind === "ollama")
    throw new KvspliceError("bad_argument", `${name} is an Ollama model. Name an adapter by hf:OWNER/NAME, its address, or its path.`);
  if (reference.kind !== "hub" || reference.choice.kind === "file") return pull(reference, { ...options, settings });
  const folder = reference.choice.kind === "quantization" ? reference.choice.label : "";
  return pull({ ...reference, choice: { kind: "adapter", folder } }, { ...options, settings });
}

/** The named models on this machine, including those of other programs. */
export function listModels(): readonly HeldModel[] {
  return heldModels(hubSettings());
}

/** The folder that models are fetched to. */
export function modelsFolder(): string {
  return hubSettings().cacheDir;
}
