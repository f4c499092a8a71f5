import { basename, extname } from "node:path";

import type { Loader } from "./loader.js";

/** A loader whose parser is loaded when the first file of its kind is read: loading all of them takes half a second. */
const lazily =
  (module: () => Promise<Loader>): Loader =>
  async (...given) =>
    (await module())(...given);

const loadCsv = lazily(async () => (await import("./csv.js")).loadCsv);
const loadDocx = lazily(async () => (await import("./docx.js")).loadDocx);
const loadEpub = lazily(async () => (await import("./epub.js")).loadEpub);
const loadHtml = lazily(async () => (await import("./html.js")).loadHtml);
const loadJson = lazily(async () => (await import("./json.js")).loadJson);
const loadJsonl = lazily(async () => (await import("./json.js")).loadJsonl);
const loadMail = lazily(async () => (await import("./mail.js")).loadMail);
const loadMailbox = lazily(async () => (await import("./mail.js")).loadMailbox);
const loadMarkdown = lazily(async () => (await import("./markdown.js")).loadMarkdown);
const loadNotebook = lazily(async () => (await import("./notebook.js")).loadNotebook);
const loadPdf = lazily(async () => (await import("./pdf/load.js")).loadPdf);
const loadPptx = lazily(async () => (await import("./pptx.js")).loadPptx);
const loadRst = lazily(async () => (await import("./rst.js")).loadRst);
const loadSource = lazily(async () => (await import("./text.js")).loadSource);
const loadText = lazily(async () => (await import("./text.js")).loadText);
const loadXlsx = lazily(async () => (await import("./xlsx.js")).loadXlsx);

const DOCUMENTS: ReadonlyMap<string, Loader> = new Map([
  [".md", loadMarkdown],
  [".markdown", loadMarkdown],
  [".mdx", loadMarkdown],
  [".rst", loadRst],
  [".txt", loadText],
  [".text", loadText],
  [".adoc", loadText],
  [".org", loadText],
  [".tex", loadText],
  [".html", loadHtml],
  [".htm", loadHtml],
  [".xhtml", loadHtml],
  [".pdf", loadPdf],
  [".docx", loadDocx],
  [".pptx", loadPptx],
  [".xlsx", loadXlsx],
  [".epub", loadEpub],
  [".csv", loadCsv],
  [".tsv", loadCsv],
  [".jsonl", loadJsonl],
  [".ndjson", loadJsonl],
  [".json", loadJson],
  [".ipynb", loadNotebook],
  [".eml", loadMail],
  [".mbox", loadMailbox],
]);

/** Source code, configuration and logs, but not style sheets, which contain nothing that users ask about. */
const SOURCES = new Set(
  (
    ".bash .bat .c .cc .cfg .clj .cmake .conf .cpp .cs .cts .cxx .dart .el .env .erl .ex .exs .f90 .fs .go .gradle .graphql .groovy .h .hh .hpp .hs " +
    ".ini .java .jl .js .jsx .kt .lisp .log .lua .m .mjs .ml .mm .mts .nix .pas .php .pl .pm .pml .properties .proto .ps1 .py .pyi .r .rb .rs .scala " +
    ".sh .sql .svelte .swift .tcl .tf .toml .ts .tsx .v .vb .vue .xml .yaml .yml .zig .zsh"
  ).split(" "),
);

/** Kinds that are read in steps, between which the event loop runs; other parsers block it. */
const IN_STEPS = new Set(".pdf .html .htm .xhtml .eml .mbox".split(" "));

export function isReadInSteps(path: string): boolean {
  return IN_STEPS.has(suffixOf(path));
}

/** Kinds with fields, which an older reader left out. */
const FIELDS_SINCE_2 = new Set(".md .markdown .mdx .csv .tsv .jsonl .ndjson .json .eml .mbox".split(" "));

/** Version of the reader for a file's kind; incremented when it finds more than before, so that files are read again. */
export function readerOf(path: string): number {
  return FIELDS_SINCE_2.has(suffixOf(path)) ? 2 : 1;
}

/** For messages: the kinds of files that can be loaded. */
export const LOADABLE = `${[...DOCUMENTS.keys()].join(" ")}, source code and logs`;

/** `.md` for `a/B.MD`; empty for a name without a suffix, such as `.bashrc`. */
export function suffixOf(path: string): string {
  return extname(basename(path)).toLowerCase();
}

/** The loader for a file name; a file without a suffix (README, LICENSE) is read as text. */
export function loaderOf(path: string): Loader | undefined {
  const suffix = suffixOf(path);
  return DOCUMENTS.get(suffix) ?? (SOURCES.has(suffix) ? loadSource : suffix === "" ? loadText : undefined);
}

/** Whether `loadFile` reads files with this name. */
export function isLoadable(path: string): boolean {
  return loaderOf(path) !== undefined;
}
