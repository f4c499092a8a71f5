import { extname } from "node:path";

import type { Document } from "../document.js";
import { loadHtml } from "./html.js";
import { loadJsonl } from "./jsonl.js";
import { type Loaded, type Loader, Unloadable } from "./loader.js";
import { loadMarkdown } from "./markdown.js";
import { loadPdf } from "./pdf.js";
import { loadText } from "./text.js";
import { titleLine } from "./title.js";

const LOADERS: ReadonlyMap<string, Loader> = new Map([
  [".md", loadMarkdown],
  [".txt", loadText],
  [".html", loadHtml],
  [".htm", loadHtml],
  [".pdf", loadPdf],
  [".jsonl", loadJsonl],
]);

/** For messages: the kinds of files that can be loaded. */
export const LOADABLE = [...LOADERS.keys()].join(" ");

export function isLoadable(path: string): boolean {
  return LOADERS.has(extname(path).toLowerCase());
}

/** The title stands above every chunk: a document that begins with it does not say it twice. */
function withoutTitle(document: Document): Document {
  const [first, ...rest] = document.paragraphs;
  return rest.length > 0 && titleLine(first!.text) === document.title ? { ...document, paragraphs: rest } : document;
}

/** The documents in a file's bytes. What cannot be loaded is told in `problems`; nothing is thrown for it. */
export async function loadFile(path: string, bytes: Uint8Array): Promise<Loaded> {
  const loader = LOADERS.get(extname(path).toLowerCase());
  const reject = (reason: string): Loaded => ({ documents: [], problems: [{ path, reason }] });
  if (loader === undefined) return reject(`Its kind is not known; convert it to one of ${LOADABLE}`);
  if (bytes.length === 0) return reject("It is empty; write something into it, or leave it out.");
  try {
    const { documents, problems } = await loader(path, bytes);
    const written = documents.map(withoutTitle).filter((document) => document.paragraphs.length > 0);
    if (written.length === 0 && problems.length === 0) return reject("It has no text; write some into it, or leave it out.");
    return { documents: written, problems };
  } catch (error) {
    if (error instanceof Unloadable) return reject(error.message);
    return reject(`It could not be parsed (${(error as Error).message}); convert it to plain text, or leave it out.`);
  }
}
