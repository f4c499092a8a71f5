import { dirname, isAbsolute, relative, resolve, sep } from "node:path";

/**
 * How a corpus writes paths down. A file that lies below the folder that holds the store (`wiki/` beside `wiki.kv/`) is
 * named from there, with `/` between the parts, so that a corpus and its documents move together; any other by its
 * absolute path.
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
