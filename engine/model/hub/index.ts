import { parseReference } from "./reference.js";
import { pull, type PullOptions, type PullProgress } from "./pull.js";
import { hubSettings } from "./settings.js";

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
