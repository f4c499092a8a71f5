/**
 * How much of a page is read, compared with Mozilla's Readability: HTML of Debian's documentation against the text that it was
 * made from (AsciiDoc of git-doc, reStructuredText in the _sources of Sphinx sites). Recall is the share of the source's words
 * that the reader returns, precision the share of its words that are in the source.
 *
 *     npx tsx bench/documents.ts --folder FOLDER        # downloads the packages
 *     npm install --no-save @mozilla/readability linkedom && npx tsx bench/pages.ts FOLDER
 */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

import { readHtml } from "../rag/load/html.js";

type Readable = { parse(): { readonly content: string } | null };
const require = createRequire(import.meta.url);
const { Readability } = require("@mozilla/readability") as { Readability: new (document: unknown) => Readable };
const { parseHTML } = require("linkedom") as { parseHTML: (html: string) => { readonly document: unknown } };

const LEAST_WORDS = 100;
const textOf = (html: string) =>
  readHtml(html)
    .paragraphs.map(({ text, columns = "" }) => `${text}\n${columns}`)
    .join("\n");
const READERS: Readonly<Record<string, (html: string) => string>> = {
  kvsplice: textOf,
  Readability: (html) => textOf(new Readability(parseHTML(html).document).parse()?.content ?? ""),
};

function wordsOf(text: string): Map<string, number> {
  const words = new Map<string, number>();
  for (const word of text.toLowerCase().match(/[\p{L}\p{N}]{2,}/gu) ?? []) words.set(word, (words.get(word) ?? 0) + 1);
  return words;
}

const sizeOf = (words: ReadonlyMap<string, number>) => [...words.values()].reduce((sum, count) => sum + count, 0);
const common = (a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>) =>
  [...a].reduce((sum, [word, count]) => sum + Math.min(count, b.get(word) ?? 0), 0);

const folder = process.argv[2]!;
const files = (await readdir(folder, { recursive: true, withFileTypes: true }))
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name));
const sets: Readonly<Record<string, readonly (readonly [html: string, source: string])[]>> = {
  Sphinx: files
    .filter((path) => path.includes("/_sources/"))
    .map((path) => [path.replace("/_sources", "").replace(/\.rst(\.txt)?$/, ".html"), path]),
  AsciiDoc: files
    .filter((path) => path.includes("/git-doc/") && path.endsWith(".txt"))
    .map((path) => [path.replace(/\.txt$/, ".html"), path]),
};
console.log("| pages | reader | number | recall | precision | less than half read | ms per page |\n|---|---|---|---|---|---|---|");
for (const [set, pairs] of Object.entries(sets)) {
  for (const [reader, read] of Object.entries(READERS)) {
    let [pages, recall, precision, lost, ms] = [0, 0, 0, 0, 0];
    for (const [html, source] of pairs.filter(([path]) => existsSync(path))) {
      const truth = wordsOf(await readFile(source, "utf8"));
      if (sizeOf(truth) < LEAST_WORDS) continue;
      const page = await readFile(html, "utf8");
      const start = performance.now();
      const words = wordsOf(read(page));
      ms += performance.now() - start;
      const shared = common(truth, words);
      pages++;
      recall += shared / sizeOf(truth);
      precision += shared / Math.max(1, sizeOf(words));
      if (shared < sizeOf(truth) / 2) lost++;
    }
    const percent = (sum: number) => `${((100 * sum) / pages).toFixed(1)} %`;
    console.log(`| ${[set, reader, pages, percent(recall), percent(precision), lost, (ms / pages).toFixed(1)].join(" | ")} |`);
  }
}
