import { type HeldModel, heldModels, isHeldSound } from "./held.js";
import { parseReference } from "./reference.js";
import { pull, type PullOptions, type PullProgress } from "./pull.js";
import { hubSettings } from "./settings.js";

export { type HeldModel, isHeldSound };
export { removeHeld } from "./held.js";
export type { PullProgress };

/**
 * The path of a model on this machine, for `loadModel`; fetched first where it is not here yet.
 *
 * @param name `hf:OWNER/NAME:QUANTISATION`, an address, `ollama:NAME:TAG`, or a path, which is returned as it is
 * @throws KvspliceError `bad_argument` if there is no such model, `unreachable`, `bad_file` if what came is not what the hub
 *   promised, `no_space`, `cancelled`
 */
export async function pullModel(name: string, options: Omit<PullOptions, "settings"> = {}): Promise<string> {
  const settings = hubSettings();
  return pull(parseReference(name, settings.endpoint), { ...options, settings });
}

/** The models that are on this machine and have names, other programs' too. */
export function listModels(): readonly HeldModel[] {
  return heldModels(hubSettings());
}

/** Where models are fetched to. */
export function modelsFolder(): string {
  return hubSettings().cacheDir;
}
