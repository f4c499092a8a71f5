import { join } from "node:path";
import { open } from "lmdb";
import { expect, onTestFinished, test, vi } from "vitest";
import { CommonCommit } from "../../storage/index.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

async function opened() {
  const root = open<number, string>({ path: join(await temporaryFolder(), "numbers.lmdb"), noSubdir: true });
  onTestFinished(() => root.close());
  return { root, common: new CommonCommit(root) };
}

test("changes of the same time see those before them, and resolve with what they return", async () => {
  const { root, common } = await opened();
  const counted = Array.from({ length: 5 }, () =>
    common.run(() => {
      const next = (root.get("count") ?? 0) + 1;
      root.putSync("count", next);
      return next;
    }),
  );
  expect(await Promise.all(counted)).toEqual([1, 2, 3, 4, 5]);
  expect(root.get("count")).toBe(5);
});

test("a change that fails has no effect, and the others have theirs", async () => {
  const { root, common } = await opened();
  const ends = await Promise.allSettled(
    ["a", "b", "c"].map((key) =>
      common.run(() => {
        root.putSync(key, 1);
        if (key === "b") throw new Error("refused");
      }),
    ),
  );
  expect(ends.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(["a", "b", "c"].map((key) => root.get(key))).toEqual([1, undefined, 1]);
});

test("a transaction ends with the change whose bytes would be too many, and begins with one however large", async () => {
  const { root, common } = await opened();
  const transactions = vi.spyOn(root, "transactionSync");
  const sizes = [2 ** 30, 0, 0, 2 ** 23, 0, 2 ** 23, 0, 1, 0];
  await Promise.all(sizes.map((bytes, i) => common.run(() => root.putSync(`${i}`, i), bytes)));
  expect(sizes.map((_, i) => root.get(`${i}`))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(transactions).toHaveBeenCalledTimes(3); // the first; then up to two halves; then the rest
});

test("many changes with one that fails take few transactions", async () => {
  const { root, common } = await opened();
  const transactions = vi.spyOn(root, "transactionSync");
  const ends = await Promise.allSettled(
    Array.from({ length: 256 }, (_, i) =>
      common.run(() => {
        root.putSync(`${i}`, i);
        if (i === 100) throw new Error("refused");
      }),
    ),
  );
  expect(ends.findIndex(({ status }) => status === "rejected")).toBe(100);
  expect(ends.map((_, i) => root.get(`${i}`) !== undefined).filter(Boolean)).toHaveLength(255);
  expect(root.get("100")).toBeUndefined();
  expect(transactions.mock.calls.length).toBeLessThan(20);
});

test("what waits can be committed before closing", async () => {
  const { root, common } = await opened();
  const change = common.run(() => root.putSync("key", 1));
  common.flush();
  expect(root.get("key")).toBe(1);
  await change;
});
