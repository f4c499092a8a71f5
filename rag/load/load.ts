import { extname } from "node:path";

import { cancelledError } from "../../plan/index.js";
import type { Document, LoadProblem } from "../document.js";
import { withoutEncodedData } from "./encoded-data.js";
import { LOADABLE, loaderOf } from "./kinds.js";
import { type Loaded, type LoadOptions, Unloadable } from "./loader.js";
import { titleLine } from "./title.js";

/** A mail within a mail within a mail: files in files are followed so far. */
const MAX_NESTING = 3;

/**
 * The documents in a file's bytes. What cannot be loaded is told in `problems`; nothing is thrown for it.
 *
 * @throws KvspliceError `cancelled`
 */
export async function loadFile(path: string, bytes: Uint8Array, options: LoadOptions = {}): Promise<Loaded> {
  return loadNested(path, bytes, options, 0);
}

async function loadNested(path: string, bytes: Uint8Array, options: LoadOptions, depth: number): Promise<Loaded> {
  const loader = loaderOf(path);
  const reject = (reason: string): Loaded => ({ documents: [], problems: [{ path, reason }] });
  if (loader === undefined) return reject(`Its kind (${extname(path)}) is not known; convert it to one of ${LOADABLE}.`);
  if (bytes.length === 0) return reject("It is empty; write something into it, or leave it out.");
  try {
    const { documents, problems } = await loader(path, bytes, options, async (name, inner) => {
      if (depth === MAX_NESTING) return { documents: [], problems: [{ path, reason: `${name} is nested deeper than ${MAX_NESTING} files; save it beside the others.` }] };
      const loaded = await loadNested(name, inner, options, depth + 1);
      return { ...loaded, problems: loaded.problems.map((problem): LoadProblem => ({ path, reason: `In ${name}: ${problem.reason}` })) };
    });
    const cleaned = documents.map(withoutEncodedData);
    const written = cleaned.map(({ document }) => withoutTitle(document)).filter((document) => document.paragraphs.length > 0);
    const told = [...problems, ...omissions(path, cleaned.reduce((sum, { characters }) => sum + characters, 0))];
    if (written.length === 0 && told.length === 0) return reject("It has no text; write some into it, or leave it out.");
    return { documents: written, problems: told };
  } catch (error) {
    if (options.signal?.aborted) throw cancelledError(options.signal);
    if (error instanceof Unloadable) return reject(error.message);
    if (error instanceof RangeError) return reject("It is nested too deeply to be read; convert it to plain text, or leave it out.");
    return reject(`It could not be parsed (${(error as Error).message}); convert it to plain text, or leave it out.`);
  }
}

/** The title stands above every chunk: a document that begins with it does not say it twice. */
function withoutTitle(document: Document): Document {
  const [first, ...rest] = document.paragraphs;
  return rest.length > 0 && titleLine(first!.text) === document.title ? { ...document, paragraphs: rest } : document;
}

function omissions(path: string, characters: number): LoadProblem[] {
  if (characters === 0) return [];
  return [{ path, reason: `${characters} characters of encoded or machine-made data (base64, minified code) in it are left out; the rest is read.` }];
}
