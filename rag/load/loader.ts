import type { Document, LoadProblem } from "../document.js";

/** The documents of one file, and what of it could not be loaded. */
export type Loaded = {
  readonly documents: readonly Document[];
  readonly problems: readonly LoadProblem[];
};

export type LoadOptions = {
  /** A command of the shell that reads a page's image (PNG) from its input and writes its text. */
  readonly ocr?: string | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** A file within another, such as a mail's attachment, is loaded by this. */
export type LoadWithin = (name: string, bytes: Uint8Array) => Promise<Loaded>;

/** Reads one kind of file. Throws `Unloadable` where the whole file is of no use. */
export type Loader = (path: string, bytes: Uint8Array, options: LoadOptions, within: LoadWithin) => Loaded | Promise<Loaded>;

/** A file that gives no document; its message is the `reason` of a `LoadProblem`. */
export class Unloadable extends Error {
  override readonly name = "Unloadable";
}
