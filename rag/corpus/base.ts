import { dirname, isAbsolute, relative, resolve, sep } from "node:path";

/**
 * How a corpus stores paths. The path of a file below the folder that contains the store (`wiki/` next to `wiki.kv/`) is
 * relative to that folder, with `/` between the parts, so that a corpus and its documents can be moved together; any
 * other path is absolute.
 */
export class Base {
  private readonly folder: string;

  /** @param dir folder of the store */
  constructor(dir: string) {
    this.folder = dirname(resolve(dir));
  }

  written(path: string): string {
    const below = relative(this.folder, path);
    return below === ".." || below.startsWith(`..${sep}`) || isAbsolute(below) ? path : below.split(sep).join("/");
  }

  absolute(written: string): string {
    return resolve(this.folder, written);
  }
}
