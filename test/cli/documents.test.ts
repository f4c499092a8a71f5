import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { kvspliceIn } from "../support/cli/in-process.js";

vi.mock("../../engine/index.js", async (original) => (await import("../support/cli/shared-models.js")).withSharedModels(await original()));
vi.mock("../../rag/embed/load.js", async (original) =>
  (await import("../support/cli/shared-models.js")).withSharedEmbedders(await original()),
);

/** The installed command; `npm test` builds it first. */
const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-documents-"));
  writeFileSync(join(home, "ferry.md"), "# Ferry\n\nIt crosses the river in four minutes.");
  writeFileSync(join(home, "owl.md"), "# Owl\n\nIt hunts at night.");
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** Runs the command in this process, with a shared model. */
const kvsplice = (...args: string[]) => kvspliceIn(home, [...args, "--store", "kv"]);

test("a dry run prints the cost; list prints a corpus's files, and remove removes them", async () => {
  expect((await kvsplice("precompute", "*.md", "--dry-run")).stdout).toMatch(
    /^2 files, 2 to read \(0 of them without text\): 2 chunks to encode, \d+ tokens, \d[\d.]* KiB in kv, about \d+ s\. Nothing was changed\.\n$/,
  );
  expect((await kvsplice("list")).stdout).toBe("");
  expect((await kvsplice("precompute", "*.md")).stdout).toMatch(/kv contains 2 chunks/);
  rmSync(join(home, "owl.md"));
  expect((await kvsplice("list")).stdout).toMatch(
    /ferry\.md {2}1 chunk, \d+ tokens\n.*owl\.md {2}1 chunk, \d+ tokens {2}no longer on disk\n/,
  );
  expect((await kvsplice("remove", "owl.md")).stdout).toMatch(/^1 file removed\. kv contains 1 file, 1 chunk, \d+ tokens\.\n$/);
  const missing = await kvsplice("remove", "owl.md");
  expect([missing.status, missing.stderr]).toEqual([1, expect.stringMatching(/no document `owl\.md`.*Nothing was removed/)]);
});

test("remove does not create a corpus if there is none", async () => {
  const { status, stderr } = await kvspliceIn(home, ["remove", "x.md", "--store", "nowhere"]);
  expect([status, stderr]).toEqual([1, expect.stringContaining("There is no corpus in nowhere")]);
  expect(existsSync(join(home, "nowhere"))).toBe(false);
});

test("--watch follows the files until Ctrl-C, which is not an error", async () => {
  const child = spawn(process.execPath, [BIN, "precompute", "*.md", "--store", "watched", "--watch"], { cwd: home });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (part) => (stdout += part));
  child.stderr.on("data", (part) => (stderr += part));
  const until = async (seen: () => boolean) => {
    while (!seen()) await new Promise((wake) => setTimeout(wake, 50));
  };
  await until(() => stderr.includes("Watching for changes"));
  expect(stdout).toMatch(/watched contains 1 chunk,/);
  writeFileSync(join(home, "fox.md"), "# Fox\n\nIt sleeps by day.");
  await until(() => stdout.includes("watched contains 2 chunks"));
  rmSync(join(home, "ferry.md"));
  await until(() => /1 removed\)[^]*watched contains 1 chunk,/.test(stdout));
  child.kill("SIGINT");
  expect((await once(child, "exit"))[0]).toBe(0);
});
