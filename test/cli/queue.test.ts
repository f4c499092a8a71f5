import { expect, test } from "vitest";

import { withSharedTier } from "../../cli/queue.js";
import { isSilence } from "../../cli/stream.js";

test("a queue that is no Redis is called by its option, and its password is not shown", () => {
  for (const queue of ["nonsense", "http://user:secret@host"]) {
    const check = () => withSharedTier({ queue });
    expect(check).toThrow(expect.objectContaining({ code: "bad_argument", message: expect.stringMatching(/^--queue is not the URL of a Redis; give one like/) }));
    expect(check).not.toThrow(/secret|redis\.url/);
  }
  expect(withSharedTier({ queue: "redis://10.0.0.5:6379" })).toMatchObject({ redis: "redis://10.0.0.5:6379" });
});

test("an answer of nothing, or of space alone, is silence", () => {
  expect(["", " \n", "four minutes"].map(isSilence)).toEqual([true, true, false]);
});
