import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openBlockStore } from "../../engine/index.js";
import { makeFolder } from "../../storage/index.js";

const root = mkdtempSync(join(tmpdir(), "kvsplice-folder-"));
afterAll(() => rmSync(root, { recursive: true }));

test("makes a folder and its parents, and leaves an existing one alone", () => {
  for (let i = 0; i < 2; i++) makeFolder(join(root, "a", "b", "c"));
  expect(existsSync(join(root, "a", "b", "c"))).toBe(true);
});

test("reports what is in the way", () => {
  writeFileSync(join(root, "file"), "");
  for (const path of [join(root, "file"), join(root, "file", "a", "b")])
    expect(() => makeFolder(path)).toThrow(`${join(root, "file")} must be a folder, but it is something else. Name another place.`);
});

test.skipIf(process.platform !== "linux")("fails if the system lets nothing be created, also for a store's folder", () => {
  expect(() => makeFolder("/proc/x/y")).toThrow("The folder /proc/x cannot be created (ENOENT). Name another place.");
  expect(() => openBlockStore({ disk: { path: "/proc/x" } })).toThrow("The folder /proc/x cannot be created");
});
