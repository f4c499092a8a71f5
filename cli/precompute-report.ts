import pc from "picocolors";
import { KvspliceError } from "../plan/index.js";
import { type Estimate, LOADABLE, type LoadProblem, type Report } from "../rag/index.js";
import { durationText, sizeText } from "./progress.js";
import { counted } from "./words.js";

/** Prints what a run did. */
export function printReport(report: Report, store: string, seconds: number): void {
  printOmissions(report);
  const { files, unchanged, moved, removed, encoded, chunks, tokens } = report;
  const came = moved === 0 ? "" : `, ${moved} of them moved`;
  process.stdout.write(
    `${counted(files, "file")} (${unchanged} unchanged${came}, ${removed} removed): ${counted(encoded, "chunk")} encoded in ${seconds.toFixed(1)} s.\n` +
      `${store} contains ${counted(chunks, "chunk")}, ${counted(tokens, "token")}.\n`,
  );
}

/** Above these limits, people want a warning before a run begins. */
const LONG_SECONDS = 3600;
const MOST_OF_DISK = 0.9;

/** Prints what a run would do. */
export function printEstimate(estimate: Estimate, store: string): void {
  printOmissions(estimate);
  const { files, changed, refused, chunks, tokens, bytes, seconds } = estimate;
  process.stdout.write(
    `${counted(files, "file")}, ${changed} to read (${refused} of them without text): ${counted(chunks, "chunk")} to encode, ${counted(tokens, "token")}, ` +
      `${sizeText(bytes)} in ${store}, about ${durationText(seconds)}. Nothing was changed.\n`,
  );
}

/** Warnings about a run that takes more time or disk than people expect. */
export function warningsOf({ bytes, seconds }: Pick<Estimate, "bytes" | "seconds">, free_bytes: number): string[] {
  const warnings: string[] = [];
  if (seconds > LONG_SECONDS)
    warnings.push(
      `this takes about ${durationText(seconds)} on this machine; kvsplice worker processes on other machines can share the work (--queue).`,
    );
  if (bytes > MOST_OF_DISK * free_bytes)
    warnings.push(`this takes ${sizeText(bytes)} of ${sizeText(free_bytes)} free disk space; free some, or name fewer files.`);
  return warnings;
}

function printOmissions({ problems, passedOver }: Pick<Report, "problems" | "passedOver">): void {
  for (const problem of problems) process.stderr.write(`${pc.yellow("skipped")} ${placeOf(problem)}: ${problem.reason}\n`);
  const passed = passedOverText(passedOver);
  if (passed !== "") process.stderr.write(`${pc.yellow("ignored")} ${passed}\n`);
}

/** Called after the report is printed. @throws KvspliceError if nothing was read or, if `strict`, if anything was left out */
export function mustHaveRead(report: Report, strict: boolean): void {
  const { files, refused, removed, chunks, problems, passedOver } = report;
  if (chunks === 0 && removed === 0)
    throw new KvspliceError(
      "empty_corpus",
      `No text was found in these files, so there is nothing to answer from. Name files of ${LOADABLE}.`,
    );
  if (refused === files && removed === 0)
    throw new KvspliceError("bad_file", `None of ${counted(files, "file")} could be read. What was already stored is kept.`);
  const passed = Object.values(passedOver).reduce((sum, count) => sum + count, 0);
  if (strict && problems.length + passed > 0) {
    throw new KvspliceError(
      "bad_file",
      `${counted(problems.length, "problem")}, ${counted(passed, "file")} ignored (--strict). What could be read is stored.`,
    );
  }
}

function placeOf({ path, line, pages }: LoadProblem): string {
  if (pages !== undefined) return `${path}, ${pages.length === 1 ? "page" : "pages"} ${rangesOf(pages)}`;
  return line === undefined ? path : `${path}:${line}`;
}

/** `[1, 2, 3, 7]` -> `1-3, 7` */
function rangesOf(numbers: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
}

function passedOverText(passedOver: Report["passedOver"]): string {
  return Object.entries(passedOver)
    .sort((a, b) => b[1] - a[1])
    .map(([kind, count]) => `${count} ${kind}`)
    .join(", ");
}
