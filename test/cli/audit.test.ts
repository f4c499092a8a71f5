import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const CORPUS = fileURLToPath(new URL("../../examples/corpus", import.meta.url));

let folder: string;
let store: string;
const kvsplice = (...args: string[]) => spawnSync(process.execPath, [BIN, ...args], { encoding: "utf8" });
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kvsplice-audit-"));
  store = join(folder, "articles.kv");
  expect(kvsplice("precompute", join(CORPUS, "forth-bridge.md"), join(CORPUS, "chess.md"), "--store", store).status).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

test("an audit compares ways on given questions, goes on where it was, and has the corpus link so from then on", () => {
  const questions = join(folder, "questions.txt");
  writeFileSync(questions, "Who designed the Forth Bridge?\n\nWho designed the Forth Bridge?\nHow many squares has a chess board?\n");
  const args = ["audit", "--store", store, "--questions", questions, "--link", "none,1", "--tolerance", "0.01", "--top-k", "2", "--json"];
  const run = kvsplice(...args);
  expect(run.status).toBe(0);
  expect(run.stderr).toContain("2 questions in 3 ways");
  const { audits, recommended, questions: asked } = JSON.parse(run.stdout);
  expect(asked).toBe(2);
  expect(audits.map(({ link }: { link: string }) => link)).toEqual(["full", "none", "1"]);
  expect(recommended).toBe("1");

  const lines = () => readFileSync(join(store, "audit.jsonl"), "utf8").trim().split("\n");
  expect(lines()).toHaveLength(6);
  // A line that was being written when the machine went down, and the others, which are not measured again.
  writeFileSync(join(store, "audit.jsonl"), `${lines().slice(0, 5).join("\n")}\n{"subject": "cut`);
  const again = kvsplice(...args);
  expect(JSON.parse(again.stdout).audits.map(({ link, divergence }: { link: string; divergence: number }) => [link, divergence.toFixed(2)])).toEqual(
    audits.map(({ link, divergence }: { link: string; divergence: number }) => [link, divergence.toFixed(2)]),
  );

  const { tokens } = JSON.parse(kvsplice("ask", "Who designed the Forth Bridge?", "--store", store, "--top-k", "2", "--json").stdout);
  expect(tokens.recomputed).toBeGreaterThan(100); // auto: what the audit recommended
  expect(JSON.parse(kvsplice("ask", "Who designed the Forth Bridge?", "--store", store, "--top-k", "2", "--link", "none", "--json").stdout).tokens.recomputed).toBe(0);
});

test.for([
  [["--questions", "/nowhere.txt"], /nowhere\.txt cannot be read/],
  [["--link", "most"], /no way of linking/],
  [["--tolerance", "2"], /0 to 1/],
] as const)("%j is refused", ([args, message]) => {
  const { status, stderr } = kvsplice("audit", "--store", store, ...args);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n\s+at /);
});
