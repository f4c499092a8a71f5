import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { kvspliceIn } from "../support/cli/in-process.js";

vi.mock("../../engine/index.js", async (original) => (await import("../support/cli/shared-models.js")).withSharedModels(await original()));
vi.mock("../../rag/embed/load.js", async (original) =>
  (await import("../support/cli/shared-models.js")).withSharedEmbedders(await original()),
);

const CORPUS = fileURLToPath(new URL("../../examples/corpus", import.meta.url));

let folder: string;
let store: string;
const kvsplice = (...args: string[]) => kvspliceIn(folder, args);
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kvsplice-audit-"));
  store = join(folder, "articles.kv");
  expect((await kvsplice("precompute", join(CORPUS, "forth-bridge.md"), join(CORPUS, "chess.md"), "--store", store)).status).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

test("an audit compares ways of linking on given questions, resumes where it stopped, and sets how the corpus links", async () => {
  const questions = join(folder, "questions.txt");
  writeFileSync(questions, "Who designed the Forth Bridge?\n\nWho designed the Forth Bridge?\nHow many squares has a chess board?\n");
  const args = ["audit", "--store", store, "--questions", questions, "--link", "none,1", "--tolerance", "0.01", "--top-k", "2", "--json"];
  const run = await kvsplice(...args);
  expect(run.status).toBe(0);
  expect(run.stderr).toContain("2 questions in 3 ways");
  const { audits, recommended, questions: asked } = JSON.parse(run.stdout);
  expect(asked).toBe(2);
  expect(audits.map(({ link }: { link: string }) => link)).toEqual(["full", "none", "1"]);
  expect(recommended).toBe("1");

  const lines = () => readFileSync(join(store, "audit.jsonl"), "utf8").trim().split("\n");
  expect(lines()).toHaveLength(6);
  // A line cut short by a crash; the complete ones are not measured again.
  writeFileSync(join(store, "audit.jsonl"), `${lines().slice(0, 5).join("\n")}\n{"subject": "cut`);
  const again = await kvsplice(...args);
  expect(
    JSON.parse(again.stdout).audits.map(({ link, divergence }: { link: string; divergence: number }) => [link, divergence.toFixed(2)]),
  ).toEqual(audits.map(({ link, divergence }: { link: string; divergence: number }) => [link, divergence.toFixed(2)]));

  const { tokens } = JSON.parse(
    (await kvsplice("ask", "Who designed the Forth Bridge?", "--store", store, "--top-k", "2", "--json")).stdout,
  );
  expect(tokens.recomputed).toBeGreaterThan(100); // auto: what the audit recommended
  expect(
    JSON.parse(
      (await kvsplice("ask", "Who designed the Forth Bridge?", "--store", store, "--top-k", "2", "--link", "none", "--json")).stdout,
    ).tokens.recomputed,
  ).toBe(0);
});

test("the next audit asks the same questions that the model made for the first", async () => {
  const args = ["audit", "--store", store, "--limit", "1", "--link", "none", "--top-k", "1", "--json"];
  const first = await kvsplice(...args);
  expect(first.stderr).toContain("The model makes 1 question from");
  const again = await kvsplice(...args);
  expect(again.stderr).not.toContain("The model makes");
  const measured = (run: { readonly stdout: string }) =>
    (JSON.parse(run.stdout) as { audits: { link: string; divergence: number }[] }).audits.map(({ link, divergence }) => [link, divergence]);
  expect(measured(again)).toEqual(measured(first)); // nothing was measured again
});

test.for([
  [["--questions", "/nowhere.txt"], /nowhere\.txt cannot be read/],
  [["--link", "most"], /is not a way of linking/],
  [["--tolerance", "2"], /0 to 1/],
] as const)("%j is refused", async ([args, message]) => {
  const { status, stderr } = await kvsplice("audit", "--store", store, ...args);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n\s+at /);
});
