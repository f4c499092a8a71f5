/**
 * 8 processes that ask and 2 that precompute, concurrently on one store: errors, duplicate encodings, memory. The blocks
 * and their encoder are the tests' (60 KB, 5 ms each), so that the store does most of the work.
 *
 *     npx tsx bench/many-processes.ts [--minutes 10] [--blocks 5000]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { shareStore } from "../test/support/engine/sharing.js";

const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" }, blocks: { type: "string", default: "5000" } } });
const dir = mkdtempSync(join(tmpdir(), "kvsplice-sharing-"));
try {
  const figures = await shareStore(
    { memory: { budget: 2 ** 24 }, disk: { path: dir } },
    8,
    2,
    Number(values.blocks),
    Number(values.minutes) * 60,
  );
  console.log(figures);
  if (figures.wrong + figures.damaged + figures.failed > 0) process.exitCode = 1;
} finally {
  rmSync(dir, { recursive: true, force: true });
}
