import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { mustHaveRead, warningsOf } from "../../cli/precompute-report.js";
import { durationText, everyMinute, progressBar } from "../../cli/progress.js";
import { counted } from "../../cli/words.js";

const MINUTE_MS = 60_000;
let written: string[];
let wasTTY: boolean;

beforeEach(() => {
  vi.useFakeTimers();
  written = [];
  wasTTY = process.stderr.isTTY;
  process.stderr.isTTY = false;
  vi.spyOn(process.stderr, "write").mockImplementation((text) => written.push(String(text)) > 0);
});
afterEach(() => {
  process.stderr.isTTY = wasTTY;
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test.each([true, false])("prints a line of progress per minute without a terminal (with --json: %s)", (json) => {
  const bar = progressBar("{bar} {percentage}% | {value}/{total} | {files} files | {eta_formatted} left", { json });
  for (let second = 0; second < 150; second++) {
    bar.tell(second, 600, { files: `${second}/600` });
    vi.advanceTimersByTime(1000);
  }
  expect(written).toEqual(["9% | 59/600 | 59/600 files | 9 min left\n", "19% | 119/600 | 119/600 files | 8 min left\n"]);
  bar.stop();
  vi.advanceTimersByTime(10 * MINUTE_MS);
  expect(written).toHaveLength(2);
});

test("prints the line during one long step too", () => {
  const bar = progressBar("{percentage}%", {});
  bar.tell(1, 4, {});
  vi.advanceTimersByTime(3 * MINUTE_MS);
  expect(written).toEqual(["25%\n", "25%\n", "25%\n"]);
  bar.stop();
});

test("work without steps reports once a minute until it is done", async () => {
  let done = (_: string) => undefined as void;
  const said: string[] = [];
  const work = everyMinute(() => said.push("still at it"), new Promise<string>((resolve) => (done = resolve)));
  vi.advanceTimersByTime(2 * MINUTE_MS);
  expect(said).toHaveLength(2);
  done("done");
  expect(await work).toBe("done");
  vi.advanceTimersByTime(5 * MINUTE_MS);
  expect(said).toHaveLength(2);
});

test("no command draws its own bar: all report progress in the same way", () => {
  const commands = readdirSync("cli").filter((file) => file !== "progress.ts");
  expect(commands.filter((file) => readFileSync(join("cli", file), "utf8").includes("cli-progress"))).toEqual([]);
});

test("counts come with nouns, and durations with units", () => {
  expect([0, 1, 2].map((count) => counted(count, "file"))).toEqual(["0 files", "1 file", "2 files"]);
  expect([4, 600, 7200].map(durationText)).toEqual(["4 s", "10 min", "2.0 h"]);
});

const REPORT = {
  files: 2,
  unchanged: 0,
  refused: 0,
  passedOver: {},
  moved: 0,
  removed: 0,
  encoded: 2,
  problems: [],
  chunks: 5,
  tokens: 50,
};

test.each([
  ["a run that read something", {}, false, undefined],
  ["one that only removed files", { files: 0, removed: 1, chunks: 0 }, false, undefined],
  ["one without any text", { chunks: 0 }, false, "empty_corpus"],
  ["one whose files were all refused", { refused: 2 }, false, "bad_file"],
  ["one that found no file", { files: 0 }, false, "bad_file"],
  ["problems", { problems: [{ path: "a", reason: "b" }] }, false, undefined],
  ["problems, strictly", { problems: [{ path: "a", reason: "b" }] }, true, "bad_file"],
  ["ignored files, strictly", { passedOver: { ".png": 3 } }, true, "bad_file"],
])("%s", (_name, changes, strict, code) => {
  const check = () => mustHaveRead({ ...REPORT, ...changes }, strict);
  if (code === undefined) check();
  else expect(check).toThrow(expect.objectContaining({ code }));
});

test("warns of a run that takes hours or fills the disk", () => {
  expect(warningsOf({ seconds: 600, bytes: 1e9 }, 1e10)).toEqual([]);
  expect(warningsOf({ seconds: 9000, bytes: 1e9 }, 1e10)).toEqual([expect.stringMatching(/about 2\.5 h.*--queue/)]);
  expect(warningsOf({ seconds: 600, bytes: 1e10 }, 1e10)).toEqual([expect.stringMatching(/9\.3 GiB of 9\.3 GiB/)]);
});
