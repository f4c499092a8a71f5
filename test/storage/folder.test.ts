import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openStore } from "../../engine/index.js";
import { makeFolder } from "../../storage/index.js";

const root = mkdtempSync(join(tmpdir(), "kvsplice-folder-"));
afterAll(() => rmSync(root, { recursive: true }));

test("makes a folder and those above it, and leaves one that is there", () => {
  for (let i = 0; i < 2; i++) makeFolder(join(root, "a", "b", "c"));
  expect(existsSync(join(root, "a", "b", "c"))).toBe(true);
});

test("says what is in the way", () => {
  writeFileSync(join(root, "file"), "");
  for (const path of [join(root, "file"), join(root, "file", "a", "b")]) expect(() => makeFolder(path)).toThrow(`${join(root, "file")} is no folder, and one is needed there. Name another place.`);
});

test.skipIf(process.platform !== "linux")("ends where the system lets nothing be made, for a store's folder too", () => {
  expect(() => makeFolder("/proc/x/y")).toThrow("/proc/x cannot be made a folder (ENOENT). Name another place.");
  expect(() => openStore({ disk: { path: "/proc/x" } })).toThrow("/proc/x cannot be made a folder");
});
