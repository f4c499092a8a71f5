import { randomUUID } from "node:crypto";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeFolder } from "../engine/index.js";
import { isLoadable, LOADABLE } from "../rag/index.js";
import { ApiError } from "./error.js";

/** A file from a client. */
export type Upload = { readonly name: string; readonly bytes: Uint8Array };

const LONGEST_NAME = 200;

/** Files from clients, in a folder of the store. Names from clients cannot lead outside it. */
export class Uploads {
  constructor(private readonly folder: string) {}

  /**
   * Writes the files, replacing those with the same names, and returns their paths.
   * @throws ApiError 400 for an invalid name or a type of file that cannot be read; nothing is written then
   */
  write(files: readonly Upload[]): readonly string[] {
    const paths = files.map(({ name }) => this.pathOf(name));
    makeFolder(this.folder);
    files.forEach(({ bytes }, i) => {
      const beside = join(this.folder, `.${randomUUID()}`);
      writeFileSync(beside, bytes);
      renameSync(beside, paths[i]!);
    });
    return paths;
  }

  /** Deletes a file, if it is in the folder. */
  remove(path: string): void {
    if (path.startsWith(join(this.folder, "/"))) rmSync(path, { force: true });
  }

  private pathOf(name: string): string {
    const refuse = (why: string) =>
      new ApiError(400, `A document cannot be named '${name.slice(0, 100)}': ${why}.`, { param: "name", code: "invalid_value" });
    if (name === "" || name.length > LONGEST_NAME || /[/\\\p{Cc}]/u.test(name) || name.startsWith("."))
      throw refuse(`use a file name of up to ${LONGEST_NAME} characters, without folders, that does not begin with a dot`);
    if (!isLoadable(name)) throw refuse(`files of this type cannot be read. These can: ${LOADABLE}`);
    return join(this.folder, name);
  }
}
