import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { durationText, progressBar } from "../../cli/progress.js";
import { mustHaveRead, warningsOf } from "../../cli/precompute-report.js";
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

test.each([true, false])("where there is no terminal, a line a minute says how far it is (beside --json: %s)", (json) => {
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

test("one long step is no silence: the line comes though nothing is told", () => {
  const bar = progressBar("{percentage}%", {});
  bar.tell(1, 4, {});
  vi.advanceTimersByTime(3 * MINUTE_MS);
  expect(written).toEqual(["25%\n", "25%\n", "25%\n"]);
  bar.stop();
});

test("counts have their nouns, and durations their units", () => {
  expect([0, 1, 2].map((count) => counted(count, "file"))).toEqual(["0 files", "1 file", "2 files"]);
  expect([4, 600, 7200].map(durationText)).toEqual(["4 s", "10 min", "2.0 h"]);
});

const REPORT = { files: 2, unchanged: 0, refused: 0, passedOver: {}, moved: 0, removed: 0, encoded: 2, problems: [], chunks: 5, tokens: 50 };

test.each([
  ["a run that read something", {}, false, undefined],
  ["one that only removed", { files: 0, removed: 1, chunks: 0 }, false, undefined],
  ["one without any text", { chunks: 0 }, false, "empty_corpus"],
  ["one whose files were all refused", { refused: 2 }, false, "bad_file"],
  ["one that found no file", { files: 0 }, false, "bad_file"],
  ["problems", { problems: [{ path: "a", reason: "b" }] }, false, undefined],
  ["problems, strictly", { problems: [{ path: "a", reason: "b" }] }, true, "bad_file"],
  ["what was passed over, strictly", { passedOver: { ".png": 3 } }, true, "bad_file"],
])("%s", (_name, changes, strict, code) => {
  const check = () => mustHaveRead({ ...REPORT, ...changes }, strict);
  if (code === undefined) check();
  else expect(check).toThrow(expect.objectContaining({ code }));
});

test("a run of hours, or one that fills the disk, is warned of", () => {
  expect(warningsOf({ seconds: 600, bytes: 1e9 }, 1e10)).toEqual([]);
  expect(warningsOf({ seconds: 9000, bytes: 1e9 }, 1e10)).toEqual([expect.stringMatching(/about 2\.5 h.*--queue/)]);
  expect(warningsOf({ seconds: 600, bytes: 1e10 }, 1e10)).toEqual([expect.stringMatching(/9\.3 GB of the 9\.3 GB/)]);
});
