import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import { afterEach, beforeEach, expect, test } from "vitest";

import { carriedFile } from "../../../engine/model/carried.js";

let home: string;
beforeEach(() => void (home = mkdtempSync(join(tmpdir(), "kvsplice-carried-"))));
afterEach(() => rmSync(home, { recursive: true }));

/** Writes a file below `home`. @returns its path */
function write(path: string, text = "{}"): string {
  const whole = join(home, path);
  mkdirSync(dirname(whole), { recursive: true });
  writeFileSync(whole, text);
  return whole;
}

/** A kvsplice package in a folder, and the module in it that looks for the file. */
function kvspliceIn(folder: string): string {
  write(join(folder, "package.json"), JSON.stringify({ name: "kvsplice", exports: { "./package.json": "./package.json" } }));
  return pathToFileURL(write(join(folder, "dist/engine/model/carried.js"), "")).href;
}

test("in a clone, the file is in models", () => {
  const module = kvspliceIn("clone");
  const file = write("clone/models/tiny.gguf");
  expect(carriedFile("tiny.gguf", "@kvsplice/tiny", module)).toBe(file);
});

test.each(["node_modules/@kvsplice/tiny", "node_modules/kvsplice/node_modules/@kvsplice/tiny"])(
  "in an installation, it is in its package: %s",
  (place) => {
    const module = kvspliceIn("node_modules/kvsplice");
    write(join(place, "package.json"), '{ "name": "@kvsplice/tiny", "version": "1.0.0" }');
    const file = write(join(place, "tiny.gguf"));
    expect(carriedFile("tiny.gguf", "@kvsplice/tiny", module)).toBe(file);
  },
);

test("if it is missing, the error says what to install", () => {
  const module = kvspliceIn("node_modules/kvsplice");
  expect(() => carriedFile("tiny.gguf", "@kvsplice/tiny", module)).toThrow("tiny.gguf is missing. Run `npm install @kvsplice/tiny`");
});
