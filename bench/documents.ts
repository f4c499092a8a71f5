/**
 * Reads a corpus of real documents and prints the results: Debian's documentation packages (apt-get download; PDF,
 * HTML, text, books, office documents) and the Markdown of the npm packages installed here. Nothing is kept.
 *
 *     npx tsx bench/documents.ts [--each 26] [--folder FOLDER]
 *
 * Files are loaded and split into chunks with the tokenizer of the included model; KV is not encoded, which
 * would take hours without changing the table. --folder keeps the packages between runs.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";

import { loadModel } from "../engine/index.js";
import { type Chunk, type Document, listFiles, loadFile, splitDocument } from "../rag/index.js";

const { values } = parseArgs({ options: { each: { type: "string", default: "26" }, folder: { type: "string" } } });
const each = Number(values.each);

const PACKAGES = [
  "bash-doc",
  "debian-faq",
  "debian-policy",
  "developers-reference",
  "ghostscript-doc",
  "git-doc",
  "maint-guide",
  "python-flask-doc",
  "python-werkzeug-doc",
  "r-cran-officer",
  "r-cran-readr",
  "r-cran-readxl",
  "sqlite3-doc",
  "zsh-doc",
];
const KINDS = [".csv", ".docx", ".epub", ".html", ".md", ".pdf", ".pptx", ".py", ".rst", ".sh", ".txt", ".xlsx"];
const LEAST_BYTES = 1500;

/** Text that nobody would miss: dots that lead to page numbers, and lines that are repeated many times. */
const DOTS = /(?:[.·•…]\s?){4,}/g;
const REPEATS = 4;

/** Running heads contain page numbers: lines that differ only in numbers count as the same. */
const withoutNumbers = (line: string) => line.replace(/\d+/g, "#");

type Row = {
  files: number;
  read: number;
  refused: number;
  pages: number;
  documents: number;
  chunks: number;
  tokens: number;
  dots: number;
  repeated: number;
  ms: number;
};
const emptyRow = (): Row => ({ files: 0, read: 0, refused: 0, pages: 0, documents: 0, chunks: 0, tokens: 0, dots: 0, repeated: 0, ms: 0 });

async function main(): Promise<void> {
  const folder = values.folder ?? (await mkdtemp(join(tmpdir(), "kvsplice-documents-")));
  try {
    await unpack(folder);
    await report(folder);
  } finally {
    if (values.folder === undefined) await rm(folder, { recursive: true, force: true });
  }
}

async function unpack(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const name of PACKAGES) {
    if (existsSync(join(folder, name))) continue;
    execFileSync("apt-get", ["-o", "APT::Sandbox::User=root", "download", name], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
    const archive = (await readdir(folder)).find((file) => file.startsWith(`${name}_`))!;
    execFileSync("dpkg-deb", ["-x", archive, name], { cwd: folder });
    await rm(join(folder, archive));
  }
  for (const path of await filesBelow(folder)) {
    if (path.endsWith(".pdf.gz")) await writeFile(path.slice(0, -3), gunzipSync(await readFile(path)));
  }
}

async function report(folder: string): Promise<void> {
  const model = await loadModel();
  const rows = new Map<string, Row>();
  const reasons: string[] = [];
  const found = [...(await filesBelow(folder)), ...(await readmes())];
  for (const kind of KINDS) {
    const row = emptyRow();
    rows.set(kind, row);
    for (const path of await chosen(found, kind)) {
      const start = performance.now();
      const { documents, problems } = await loadFile(path, await readFile(path));
      row.ms += performance.now() - start;
      row.files++;
      row.documents += documents.length;
      if (documents.length > 0) row.read++;
      else row.refused++;
      for (const { pages, reason } of problems) {
        row.pages += pages?.length ?? 0;
        reasons.push(`${basename(path)}${pages ? `, pages ${pages.join(" ")}` : ""}: ${reason}`);
      }
      const lineOf = kind === ".pdf" ? withoutNumbers : (line: string) => line;
      for (const document of documents)
        count(row, document, await splitDocument(document, model), { lineOf, tokensOf: (text) => model.tokenizer.encode(text).length });
    }
  }
  await model.close();
  print(rows);
  if (reasons.length > 0) console.log(`\nTold:\n${reasons.map((reason) => `- ${reason}`).join("\n")}`);
  const { files, passedOver } = await listFiles([folder]);
  const passed = Object.entries(passedOver).sort((a, b) => b[1] - a[1]);
  console.log(
    `\nIn the packages' unmodified folders, ${files.length} files are read and ${passed.reduce((sum, [, n]) => sum + n, 0)} skipped: ${passed.map(([kind, n]) => `${n} ${kind}`).join(", ")}.`,
  );
}

function count(
  row: Row,
  document: Document,
  chunks: readonly Chunk[],
  { lineOf, tokensOf }: { lineOf: (line: string) => string; tokensOf: (text: string) => number },
): void {
  const columns = new Set(document.paragraphs.map((paragraph) => paragraph.columns));
  const seen = new Map<string, number>();
  for (const { text, tokens } of chunks) {
    row.chunks++;
    row.tokens += tokens.length;
    for (const dots of text.match(DOTS) ?? []) row.dots += tokensOf(dots);
    for (const line of text.split("\n").map((part) => lineOf(part.trim()))) {
      if (line.length < 4 || columns.has(line)) continue;
      const times = (seen.get(line) ?? 0) + 1;
      seen.set(line, times);
      if (times >= REPEATS) row.repeated += tokensOf(line);
    }
  }
}

/** Files of a kind, evenly spaced in their order, so that they come from different packages. */
async function chosen(paths: readonly string[], kind: string): Promise<string[]> {
  const some: string[] = [];
  for (const path of [...new Set(paths)].sort()) {
    if (path.endsWith(kind) && (await stat(path)).size >= LEAST_BYTES) some.push(path);
  }
  const step = Math.max(1, some.length / each);
  return Array.from({ length: Math.min(each, some.length) }, (_, index) => some[Math.floor(index * step)]!);
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function readmes(): Promise<string[]> {
  const modules = fileURLToPath(new URL("../node_modules", import.meta.url));
  return (await filesBelow(modules)).filter((path) => /\/(?:README|CHANGELOG)\.md$/i.test(path));
}

function print(rows: ReadonlyMap<string, Row>): void {
  const all = emptyRow();
  for (const row of rows.values()) for (const key of Object.keys(all) as (keyof Row)[]) all[key] += row[key];
  console.log("| kind | files | read | refused | pages reported | documents | chunks | tokens | dots | repeated lines | ms per file |");
  console.log("|---|---|---|---|---|---|---|---|---|---|---|");
  for (const [kind, row] of [...rows, ["all", all] as const]) {
    const share = (part: number) => `${row.tokens === 0 ? "0.0" : ((100 * part) / row.tokens).toFixed(1)} %`;
    const { files, read, refused, pages, documents, chunks, tokens, dots, repeated, ms } = row;
    console.log(
      `| ${[kind, files, read, refused, pages, documents, chunks, tokens, share(dots), share(repeated), Math.round(ms / Math.max(1, files))].join(" | ")} |`,
    );
  }
}

await main();
