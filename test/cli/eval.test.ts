import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test, vi } from "vitest";
import { kvspliceIn } from "../support/cli/in-process.js";

vi.mock("../../engine/index.js", async (original) => (await import("../support/cli/shared-models.js")).withSharedModels(await original()));
vi.mock("../../rag/embed/load.js", async (original) =>
  (await import("../support/cli/shared-models.js")).withSharedEmbedders(await original()),
);

/** The installed command; `npm test` builds it first. */
const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const EXAMPLES = fileURLToPath(new URL("../../examples/eval", import.meta.url));
const FILES = ["--questions", join(EXAMPLES, "questions.jsonl"), "--passages", join(EXAMPLES, "passages.jsonl")];

const kvsplice = (...args: string[]) => kvspliceIn(process.cwd(), ["eval", ...args]);

test("five questions in all modes give one result for each mode and number of link tokens", async () => {
  const run = await kvsplice(...FILES, "--documents", "3", "--link-tokens", "0", "--json");
  const { results, ...of } = JSON.parse(run.stdout);
  expect(of).toEqual({ model: "kvsplice-135m", precision: "int8", activations: "int8", documents: 3, seed: 0 });
  expect(results.map(({ mode, link_tokens }: Record<string, unknown>) => [mode, link_tokens])).toEqual([
    ["full", 0],
    ["spliced", 0],
    ["unrotated", 0],
  ]);
  for (const result of results) {
    expect(Object.keys(result)).toEqual([
      "set",
      "mode",
      "link",
      "link_tokens",
      "questions",
      "kl",
      "same_first_token",
      ...(result.mode === "full" ? [] : ["difference", "interval"]),
      "recomputed",
      "first_token_ms",
      "exact_match",
      "contains",
      "f1",
      "seconds_per_question",
    ]);
    expect(result.questions).toBe(5);
    expect(result.contains).toBeGreaterThanOrEqual(result.exact_match);
    expect(result.f1).toBeGreaterThanOrEqual(result.exact_match);
  }
  expect(results[0]).toMatchObject({ kl: 0, same_first_token: 100, recomputed: 100 });
  expect(results[1].kl).toBeGreaterThan(0);
  // Short documents like those that the model was trained on: most of the five answers are correct.
  expect(results[1].contains).toBeGreaterThanOrEqual(60);
});

test("accepts float32 throughout, and another order of the documents", async () => {
  const run = await kvsplice(
    ...FILES,
    "--limit",
    "2",
    "--documents",
    "2",
    "--modes",
    "spliced",
    "--link-tokens",
    "0",
    "--precision",
    "float32",
    "--activations",
    "float32",
    "--seed",
    "3",
    "--json",
  );
  expect(JSON.parse(run.stdout)).toMatchObject({ precision: "float32", activations: "float32", seed: 3, results: [{ questions: 2 }] });
});

test("the table shows modes and scores; lists select what is measured", async () => {
  const { stdout, status } = await kvsplice(...FILES, "--limit", "1", "--documents", "2", "--modes", "spliced", "--link-tokens", "0,4");
  expect(stdout).toMatch(
    /^set +mode +link +link tokens +questions +exact match +contains +vs full \(95 %\) +F1 +KL +same first +recomputed +first token +s\/question\nquestions +spliced +none +0 +1 .*\nquestions +spliced +none +4 +1 .*\n$/,
  );
  expect(status).toBe(0);
});

test("measures several sets in one run, and nothing that an earlier run measured", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-eval-"));
  const resume = join(folder, "found.jsonl");
  const args = [
    ...FILES,
    "--questions",
    join(EXAMPLES, "questions.jsonl"),
    "--limit",
    "1",
    "--documents",
    "2",
    "--modes",
    "spliced",
    "--link-tokens",
    "0",
    "--resume",
    resume,
    "--json",
  ];
  const first = JSON.parse((await kvsplice(...args)).stdout);
  expect(first.results.map(({ set, questions }: Record<string, unknown>) => [set, questions])).toEqual([
    ["questions", 1],
    ["questions", 1],
  ]);
  const written = readFileSync(resume, "utf8");
  // The last line was cut short by a kill.
  writeFileSync(resume, `${written}{"key": "x`);
  const again = JSON.parse((await kvsplice(...args)).stdout);
  expect(again.results[1]).toEqual(first.results[1]);
  expect(readFileSync(resume, "utf8")).toBe(`${written}{"key": "x\n`);
  rmSync(folder, { recursive: true });
});

test.for([
  [["--modes", "half"], /no mode "half"; choose from full, spliced, unrotated/],
  [["--link-tokens", "5"], /link tokens 0 to 4/],
  [["--link-tokens", "many"], /whole numbers separated by commas/],
  [["--documents", "0"], /whole number, 1 or more/],
  [["--seed", "x"], /whole number, 0 or more/],
  [["--activations", "int4"], /int8, float32/],
  [["--passages", "nowhere.jsonl"], /nowhere\.jsonl cannot be read/],
  [["--resume", "nowhere/out.jsonl"], /nowhere\/out\.jsonl cannot be opened for reading and writing \(ENOENT\). Name another file/],
] as const)("%j is refused, and the error says what to do", async ([options, message]) => {
  const { stderr, status } = await kvsplice(...FILES, "--limit", "1", ...options);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect(status).toBe(1);
});

test("Ctrl-C stops it with exit code 130", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-eval-"));
  const pipe = join(folder, "questions.jsonl");
  execFileSync("mkfifo", [pipe]);
  const child = spawn(process.execPath, [BIN, "eval", ...FILES, "--questions", pipe]);
  // Opening a pipe waits for its other end, so the command is running and handles signals.
  const writer = await open(pipe, "w");
  child.kill("SIGINT");
  await writer.writeFile(readFileSync(join(EXAMPLES, "questions.jsonl")));
  await writer.close();
  expect((await once(child, "exit"))[0]).toBe(130);
  rmSync(folder, { recursive: true });
});
