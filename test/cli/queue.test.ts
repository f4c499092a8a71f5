import { expect, test } from "vitest";

import { withSharedTier } from "../../cli/queue.js";
import { isSilence } from "../../cli/stream.js";

test("an invalid queue is reported by its option, without its password", () => {
  for (const queue of ["nonsense", "http://user:secret@host"]) {
    const check = () => withSharedTier({ queue });
    expect(check).toThrow(
      expect.objectContaining({
        code: "bad_argument",
        message: expect.stringMatching(/^--queue is not a Redis URL\. Give one like/),
      }),
    );
    expect(check).not.toThrow(/secret|redis\.url/);
  }
  expect(withSharedTier({ queue: "redis://10.0.0.5:6379" })).toMatchObject({ redis: "redis://10.0.0.5:6379" });
});

test("an answer that is empty or only white space is silence", () => {
  expect(["", " \n", "four minutes"].map(isSilence)).toEqual([true, true, false]);
});
