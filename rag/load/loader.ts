import type { Document, LoadProblem } from "../document.js";

/** The documents of one file, and what of it could not be loaded. */
export type Loaded = {
  readonly documents: readonly Document[];
  readonly problems: readonly LoadProblem[];
};

/** Reads one kind of file. Throws `Unloadable` where the whole file is of no use. */
export type Loader = (path: string, bytes: Uint8Array) => Loaded | Promise<Loaded>;

/** A file that gives no document; its message is the `reason` of a `LoadProblem`. */
export class Unloadable extends Error {
  override readonly name = "Unloadable";
}
