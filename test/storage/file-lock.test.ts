import { existsSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { withFileLock } from "../../storage/index.js";

const folder = mkdtempSync(join(tmpdir(), "kvsplice-lock-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ENDED_PROCESS = 2 ** 22 + 1; // above Linux's largest process id

test("holders of the same lock run one after the other", async () => {
  const path = join(folder, "turns");
  let inside = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 4 }, () =>
      withFileLock(path, async () => {
        most = Math.max(most, ++inside);
        await sleep(10);
        inside--;
      }),
    ),
  );
  expect(most).toBe(1);
  expect(existsSync(path)).toBe(false);
});

test("an error inside releases the lock", async () => {
  const path = join(folder, "error");
  await expect(withFileLock(path, () => Promise.reject(new Error("inside")))).rejects.toThrow("inside");
  expect(existsSync(path)).toBe(false);
});

test("the lock of a process that has ended is taken over", async () => {
  const path = join(folder, "ended");
  writeFileSync(path, `${ENDED_PROCESS} ${hostname()}`);
  expect(await withFileLock(path, async () => "in")).toBe("in");
});

test("waits for another machine's lock until it has not been touched for half a minute", async () => {
  const path = join(folder, "elsewhere");
  writeFileSync(path, `${process.pid} another-machine`);
  let waits = 0;
  const controller = new AbortController();
  const waiting = withFileLock(path, async () => "in", { signal: controller.signal, onWait: () => waits++ });
  await expect.poll(() => waits).toBe(1);
  const longAgo = Date.now() / 1000 - 31;
  utimesSync(path, longAgo, longAgo);
  expect(await waiting).toBe("in");
  expect(waits).toBe(1);
});

test("waiting can be cancelled", async () => {
  const path = join(folder, "cancelled");
  writeFileSync(path, `${process.pid} ${hostname()}`);
  const controller = new AbortController();
  const waiting = withFileLock(path, async () => "in", { signal: controller.signal, onWait: () => controller.abort() });
  await expect(waiting).rejects.toThrow();
  expect(existsSync(path)).toBe(true);
});
