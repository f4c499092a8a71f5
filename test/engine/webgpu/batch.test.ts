import { describe, expect, test } from "vitest";
import { batchOf, PassSize } from "../../../engine/backend/webgpu/batch.js";

describe("a batch", () => {
  const batch = (lengths: readonly number[], tokens: number, foreground: readonly number[] = []) =>
    batchOf(
      lengths.map((length, i) => ({ length, background: !foreground.includes(i) })),
      tokens,
    );

  test("takes the first blocks, as many as fit in the number of tokens", () => {
    expect(batch([100, 100, 100, 100], 300)).toEqual([0, 1, 2]);
  });

  test("leaves blocks of another length for a later one", () => {
    expect(batch([100, 20, 130, 76, 99], 1000)).toEqual([0, 4, 3]);
  });

  test("takes the first and those closest to it in length: they have the least padding", () => {
    expect(batch([100, 120, 90, 101, 99, 125, 95], 404)).toEqual([0, 3, 4, 6]);
  });

  test("takes what somebody waits for before what is closer in length", () => {
    expect(batch([100, 100, 120, 100, 110], 360, [0, 2, 4])).toEqual([0, 4, 2]);
  });

  test("counts padding: each block takes as many tokens as the longest", () => {
    expect(batch([80, 100, 100], 280)).toEqual([0, 1]);
  });

  test("takes the first block even if it is longer than a pass", () => {
    expect(batch([5000, 10], 512)).toEqual([0]);
  });
});

describe("the size of a pass", () => {
  /** A device's time for this many tokens: a fixed part, and a part per token. */
  const sizeAfter = (passes: number, ms: (tokens: number) => number, most?: number) => {
    const size = new PassSize(most);
    for (let i = 0; i < passes; i++) size.took(size.tokens, ms(size.tokens));
    return size.tokens;
  };

  test("grows while that makes each token cheaper, and shrinks again if it does not", () => {
    expect(sizeAfter(20, (tokens) => tokens)).toBe(512);
    expect(sizeAfter(20, (tokens) => 1000 + Math.max(0, tokens - 1024) * 2)).toBe(1024);
    expect(sizeAfter(20, (tokens) => 1000 + tokens / 100)).toBe(4096);
  });

  test("does not exceed the memory", () => {
    expect(sizeAfter(20, () => 1000, 1500)).toBe(1024);
    expect(new PassSize(100).tokens).toBe(100);
  });

  test("ignores the first pass of a size, which may compile, and passes that are not full", () => {
    const size = new PassSize();
    size.took(512, 60_000);
    size.took(100, 60_000);
    expect(size.tokens).toBe(512);
    size.took(512, 10);
    expect(size.tokens).toBe(1024);
  });

  test("is half of a size that did not fit in memory, and grows no further", () => {
    const size = new PassSize();
    size.failed(512);
    expect(size.tokens).toBe(256);
    for (let i = 0; i < 10; i++) size.took(256, 1);
    expect(size.tokens).toBe(256);
  });
});
