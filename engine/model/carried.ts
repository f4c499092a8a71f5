import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { KvspliceError } from "../../plan/index.js";

/**
 * The path of a file that comes with kvsplice: in a clone it is in the folder `models`, and npm installs it alongside kvsplice in
 * a data package. Neither case needs a network.
 *
 * @param file the file's name, such as `kvsplice-135m.gguf`
 * @param dataPackage the package that has it
 * @param from a module of kvsplice; tests pass another one
 * @throws KvspliceError `bad_model` if the file is in neither place
 */
export function carriedFile(file: string, dataPackage: string, from: string = import.meta.url): string {
  const { resolve } = createRequire(from);
  const inClone = join(dirname(resolve("kvsplice/package.json")), "models", file);
  if (existsSync(inClone)) return inClone;
  try {
    return resolve(`${dataPackage}/${file}`);
  } catch (cause) {
    throw new KvspliceError("bad_model", `${file} is missing. Run \`npm install ${dataPackage}\`, or name another model.`, { cause });
  }
}
