import { extname } from "node:path";

import { cancelledError } from "../../plan/index.js";
import type { Document, LoadProblem } from "../document.js";
import { withoutEncodedData } from "./encoded-data.js";
import { isLoadable, isReadInSteps, LOADABLE, loaderOf } from "./kinds.js";
import { type Loaded, type LoadOptions, MissingPackageError, UnreadableFileError } from "./loader.js";
import { loadInThread } from "./reading.js";
import { titleLine } from "./title.js";

/** How deep files within files are read, such as a mail within a mail. */
const MAX_NESTING = 3;

/** A parser takes some 10 to 40 ms for this much; starting a thread takes some 200. */
const LARGE_bytes = 256 * 1024;

/**
 * The documents in a file's bytes. What cannot be loaded is reported in `problems` rather than thrown. A large file whose
 * parser cannot work in steps is read in a separate thread.
 *
 *     const { documents, problems } = await loadFile("handbook.pdf", await readFile("handbook.pdf"));
 *
 * @throws KvspliceError `cancelled`
 */
export async function loadFile(path: string, bytes: Uint8Array, options: LoadOptions = {}): Promise<Loaded> {
  return loadNested(path, bytes, options, 0);
}

function loadNested(path: string, bytes: Uint8Array, options: LoadOptions, depth: number): Promise<Loaded> {
  const isLong = bytes.length >= LARGE_bytes && isLoadable(path) && !isReadInSteps(path);
  return isLong ? loadInThread(path, bytes, options) : loadHere(path, bytes, options, depth);
}

/** The same in this thread, however long it takes. */
export async function loadHere(path: string, bytes: Uint8Array, options: LoadOptions = {}, depth = 0): Promise<Loaded> {
  const loader = loaderOf(path);
  let incomplete = false as boolean; // also set by nested files
  const reject = (reason: string): Loaded => ({ documents: [], problems: [{ path, reason }], ...(incomplete && { incomplete }) });
  if (loader === undefined) return reject(`Its kind (${extname(path)}) is unknown; convert it to one of ${LOADABLE}.`);
  if (bytes.length === 0) return reject("It is empty; write something into it, or leave it out.");
  try {
    const { documents, problems } = await loader(path, bytes, options, async (name, inner) => {
      if (depth === MAX_NESTING)
        return {
          documents: [],
          problems: [{ path, reason: `${name} is nested more than ${MAX_NESTING} files deep; save it separately.` }],
        };
      const loaded = await loadNested(name, inner, options, depth + 1);
      incomplete ||= loaded.incomplete === true;
      return { ...loaded, problems: loaded.problems.map((problem): LoadProblem => ({ path, reason: `In ${name}: ${problem.reason}` })) };
    });
    const cleaned = documents.map(withoutEncodedData);
    const written = cleaned.map(({ document }) => withoutTitle(document)).filter((document) => document.paragraphs.length > 0);
    const told = [
      ...problems,
      ...omissions(
        path,
        cleaned.reduce((sum, { characters }) => sum + characters, 0),
      ),
    ];
    if (written.length === 0 && told.length === 0) return reject("It has no text; write some into it, or leave it out.");
    return { documents: written, problems: told, ...(incomplete && { incomplete }) };
  } catch (error) {
    if (options.signal?.aborted) throw cancelledError(options.signal);
    incomplete ||= error instanceof MissingPackageError;
    if (error instanceof UnreadableFileError) return reject(error.message);
    if (error instanceof RangeError) return reject("It is nested too deeply to be read; convert it to plain text, or leave it out.");
    return reject(`It could not be parsed (${(error as Error).message}); convert it to plain text, or leave it out.`);
  }
}

/** The title precedes every chunk, so a document that begins with it loses that copy. */
function withoutTitle(document: Document): Document {
  const [first, ...rest] = document.paragraphs;
  return rest.length > 0 && titleLine(first!.text) === document.title ? { ...document, paragraphs: rest } : document;
}

function omissions(path: string, characters: number): LoadProblem[] {
  if (characters === 0) return [];
  return [
    {
      path,
      reason: `${characters} characters of encoded or machine-made data (base64, minified code) in it are left out; the rest is read.`,
    },
  ];
}
