import type { Document, LoadProblem } from "../document.js";

/** The documents of one file, and which parts could not be loaded. */
export type Loaded = {
  readonly documents: readonly Document[];
  readonly problems: readonly LoadProblem[];
  /** True if a package that is not installed would read more of the file, so that it is worth loading again; false by default. */
  readonly incomplete?: boolean;
};

/** How to read files. */
export type LoadOptions = {
  /** A shell command that reads a page's image (PNG) from its input and writes its text. By default, images are not read. */
  readonly ocr?: string | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** Loads a file within another, such as a mail's attachment. */
export type LoadWithin = (name: string, bytes: Uint8Array) => Promise<Loaded>;

/** Reads one kind of file. Throws `UnreadableFileError` if the whole file cannot be used. */
export type Loader = (path: string, bytes: Uint8Array, options: LoadOptions, within: LoadWithin) => Loaded | Promise<Loaded>;

/** Thrown for a file without a usable document; the message becomes the `reason` of a `LoadProblem`. */
export class UnreadableFileError extends Error {
  override readonly name: string = "UnreadableFileError";
}

/** A file whose reader is an optional package that is not installed; the message names the command that installs it. */
export class MissingPackageError extends UnreadableFileError {
  override readonly name = "MissingPackageError";
}
