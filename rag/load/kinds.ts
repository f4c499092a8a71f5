import { basename, extname } from "node:path";

import { loadCsv } from "./csv.js";
import { loadDocx } from "./docx.js";
import { loadEpub } from "./epub.js";
import { loadHtml } from "./html.js";
import { loadJson, loadJsonl } from "./json.js";
import type { Loader } from "./loader.js";
import { loadMail, loadMailbox } from "./mail.js";
import { loadMarkdown } from "./markdown.js";
import { loadNotebook } from "./notebook.js";
import { loadPdf } from "./pdf/load.js";
import { loadPptx } from "./pptx.js";
import { loadRst } from "./rst.js";
import { loadSource, loadText } from "./text.js";
import { loadXlsx } from "./xlsx.js";

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

/** Source code, configuration and logs. Style sheets are not among them: they say nothing that is asked for. */
const SOURCES = new Set(
  (".bash .bat .c .cc .cfg .clj .cmake .conf .cpp .cs .cts .cxx .dart .el .env .erl .ex .exs .f90 .fs .go .gradle .graphql .groovy .h .hh .hpp .hs " +
    ".ini .java .jl .js .jsx .kt .lisp .log .lua .m .mjs .ml .mm .mts .nix .pas .php .pl .pm .pml .properties .proto .ps1 .py .pyi .r .rb .rs .scala " +
    ".sh .sql .svelte .swift .tcl .tf .toml .ts .tsx .v .vb .vue .xml .yaml .yml .zig .zsh").split(" "),
);

/** For messages: the kinds of files that can be loaded. */
export const LOADABLE = `${[...DOCUMENTS.keys()].join(" ")}, source code and logs`;

/** `.md` of `a/B.MD`; empty for a name without a suffix, `.bashrc` among them. */
export function suffixOf(path: string): string {
  return extname(basename(path)).toLowerCase();
}

/** What loads a file by its name; one without a suffix (README, LICENSE) is text if it is anything. */
export function loaderOf(path: string): Loader | undefined {
  const suffix = suffixOf(path);
  return DOCUMENTS.get(suffix) ?? (SOURCES.has(suffix) ? loadSource : suffix === "" ? loadText : undefined);
}

export function isLoadable(path: string): boolean {
  return loaderOf(path) !== undefined;
}
