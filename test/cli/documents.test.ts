import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

/** The command as it is installed; `npm test` builds it first. */
const BIN = new URL("../../dist/cli/main.js", import.meta.url).pathname;

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-documents-"));
  writeFileSync(join(home, "ferry.md"), "# Ferry\n\nIt crosses the river in four minutes.");
  writeFileSync(join(home, "owl.md"), "# Owl\n\nIt hunts at night.");
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

const kvsplice = (...args: string[]) => spawnSync(process.execPath, [BIN, ...args, "--store", "kv"], { encoding: "utf8", cwd: home });

test("a dry run tells the cost; a corpus is listed, and documents are taken out of it", () => {
  expect(kvsplice("precompute", "*.md", "--dry-run").stdout).toMatch(/^2 files, 2 to be read \(0 of them without text\): 2 chunks to be encoded, \d+ tokens, \d[\d.]* KB in kv, about \d+ s\. Nothing was changed\.\n$/);
  expect(kvsplice("list").stdout).toBe("");
  expect(kvsplice("precompute", "*.md").stdout).toMatch(/kv holds 2 chunks/);
  rmSync(join(home, "owl.md"));
  expect(kvsplice("list").stdout).toMatch(/ferry\.md {2}1 chunk, \d+ tokens\n.*owl\.md {2}1 chunk, \d+ tokens {2}gone from the disk\n/);
  expect(kvsplice("remove", "owl.md").stdout).toMatch(/^1 file removed\. kv holds 1 file, 1 chunk, \d+ tokens\.\n$/);
  const missing = kvsplice("remove", "owl.md");
  expect([missing.status, missing.stderr]).toEqual([1, expect.stringMatching(/no document `owl\.md`.*Nothing was removed/)]);
});

test("where there is no corpus, none is made to take something out of it", () => {
  const { status, stderr } = spawnSync(process.execPath, [BIN, "remove", "x.md", "--store", "nowhere"], { encoding: "utf8", cwd: home });
  expect([status, stderr]).toEqual([1, expect.stringContaining("There is no corpus in nowhere")]);
  expect(existsSync(join(home, "nowhere"))).toBe(false);
});

test("--watch follows the files until Ctrl-C, which is no error", async () => {
  const child = spawn(process.execPath, [BIN, "precompute", "*.md", "--store", "watched", "--watch"], { cwd: home });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (part) => (stdout += part));
  child.stderr.on("data", (part) => (stderr += part));
  const until = async (seen: () => boolean) => {
    while (!seen()) await new Promise((wake) => setTimeout(wake, 50));
  };
  await until(() => stderr.includes("Watching for changes"));
  expect(stdout).toMatch(/watched holds 1 chunk,/);
  writeFileSync(join(home, "fox.md"), "# Fox\n\nIt sleeps by day.");
  await until(() => stdout.includes("watched holds 2 chunks"));
  rmSync(join(home, "ferry.md"));
  await until(() => /1 removed\)[^]*watched holds 1 chunk,/.test(stdout));
  child.kill("SIGINT");
  expect((await once(child, "exit"))[0]).toBe(0);
});
