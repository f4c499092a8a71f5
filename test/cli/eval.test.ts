import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

/** The command as it is installed; `npm test` builds it first. */
const BIN = new URL("../../dist/cli/main.js", import.meta.url).pathname;
const EXAMPLES = new URL("../../examples/eval", import.meta.url).pathname;
const FILES = ["--questions", join(EXAMPLES, "questions.jsonl"), "--passages", join(EXAMPLES, "passages.jsonl")];

const kvsplice = (...args: string[]) => spawnSync(process.execPath, [BIN, "eval", ...args], { encoding: "utf8" });

test("five questions in all modes: one result for each mode and count of link tokens", () => {
  const run = kvsplice(...FILES, "--documents", "3", "--link-tokens", "0", "--json");
  const { results, ...of } = JSON.parse(run.stdout);
  expect(of).toEqual({ model: "kvsplice-135m", precision: "int8", activations: "int8", documents: 3, seed: 0 });
  expect(results.map(({ mode, link_tokens }: Record<string, unknown>) => [mode, link_tokens])).toEqual([["full", 0], ["spliced", 0], ["unrotated", 0]]);
  for (const result of results) {
    expect(Object.keys(result)).toEqual(["mode", "link", "link_tokens", "questions", "kl", "same_first_token", "recomputed", "first_token_ms", "exact_match", "contains", "f1", "seconds_per_question"]);
    expect(result.questions).toBe(5);
    expect(result.contains).toBeGreaterThanOrEqual(result.exact_match);
    expect(result.f1).toBeGreaterThanOrEqual(result.exact_match);
  }
  expect(results[0]).toMatchObject({ kl: 0, same_first_token: 100, recomputed: 100 });
  expect(results[1].kl).toBeGreaterThan(0);
  // Short documents of the kind that the model was trained on: most of the five are right.
  expect(results[1].contains).toBeGreaterThanOrEqual(60);
});

test("float32 everywhere, and another order of the documents", () => {
  const run = kvsplice(...FILES, "--limit", "2", "--documents", "2", "--modes", "spliced", "--link-tokens", "0", "--precision", "float32", "--activations", "float32", "--seed", "3", "--json");
  expect(JSON.parse(run.stdout)).toMatchObject({ precision: "float32", activations: "float32", seed: 3, results: [{ questions: 2 }] });
});

test("the table names modes and scores; lists choose what is measured", () => {
  const { stdout, status } = kvsplice(...FILES, "--limit", "1", "--documents", "2", "--modes", "spliced", "--link-tokens", "0,4");
  expect(stdout).toMatch(/^mode +link +link tokens +questions +exact match +contains +F1 +KL +same first +recomputed +first token +s\/question\nspliced +none +0 +1 .*\nspliced +none +4 +1 .*\n$/);
  expect(status).toBe(0);
});

test.for([
  [["--modes", "half"], /no mode "half"; choose from full, spliced, unrotated/],
  [["--link-tokens", "5"], /link tokens 0 to 4/],
  [["--link-tokens", "many"], /whole numbers with commas/],
  [["--documents", "0"], /whole number from 1/],
  [["--seed", "x"], /whole number from 0/],
  [["--activations", "int4"], /int8, float32/],
  [["--passages", "nowhere.jsonl"], /nowhere\.jsonl cannot be read/],
] as const)("%j is refused with what to do", ([options, message]) => {
  const { stderr, status } = kvsplice(...FILES, "--limit", "1", ...options);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect(status).toBe(1);
});

test("Ctrl-C ends it with exit code 130", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-eval-"));
  const pipe = join(folder, "questions.jsonl");
  execFileSync("mkfifo", [pipe]);
  const child = spawn(process.execPath, [BIN, "eval", ...FILES, "--questions", pipe]);
  // Opening a pipe waits for its other end: the command is at work, and listens to signals.
  const writer = await open(pipe, "w");
  child.kill("SIGINT");
  await writer.writeFile(readFileSync(join(EXAMPLES, "questions.jsonl")));
  await writer.close();
  expect((await once(child, "exit"))[0]).toBe(130);
  rmSync(folder, { recursive: true });
});
