import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { openDiskStore } from "../../engine/index.js";
import type { Report } from "../../rag/index.js";
import { kvspliceIn } from "../support/cli/in-process.js";
import { fileOf, flip, placesOf, storedKeys } from "../support/engine/stored-bytes.js";
import { fill, mountSmall } from "../support/small-disk.js";

vi.mock("../../engine/index.js", async (original) => (await import("../support/cli/shared-models.js")).withSharedModels(await original()));
vi.mock("../../rag/embed/load.js", async (original) =>
  (await import("../support/cli/shared-models.js")).withSharedEmbedders(await original()),
);

/** The installed command; `npm test` builds it first. */
const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

const ARTICLES = {
  "lighthouse.md":
    "# Brenna Point\n\nThe lighthouse on Brenna Point was lit for the first time in October 1871. Its first keeper, Oda Halvorsen, kept a diary of every ship that passed for twenty-two years.",
  "ferry.txt":
    "Marten ferry\n\nThe ferry at Dollis crosses the river Marten in four minutes. It carries six cars and runs from five in the morning until midnight.",
  "bread.html":
    "<html><head><title>Sourdough</title></head><body><nav>Menu</nav><p>Sourdough bread rises by wild yeast and lactic acid bacteria. A starter of flour and water is fed every day.</p></body></html>",
};

let home: string;
let docs: string;
let store: string;

/** Runs the command in this process, with a shared model. */
const kvsplice = (...args: string[]) => kvspliceIn(home, args);

/** Runs the installed command, for tests of the process itself. */
function spawned(input: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, ...args], { encoding: "utf8", cwd: home, input });
  return { status, stdout, stderr };
}

const precompute = (...args: string[]) => kvsplice("precompute", ...args, "--json");
const reportOf = (run: { stdout: string }) => JSON.parse(run.stdout) as Report;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-cli-"));
  docs = join(home, "docs");
  store = join(home, "store");
  mkdirSync(docs);
  for (const [name, text] of Object.entries(ARTICLES)) writeFileSync(join(docs, name), text);
  expect((await precompute(docs, "--store", store)).status).toBe(0);
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** A user gets a sentence, never a stack trace. */
function expectError(run: { status: number | null; stderr: string }, message: RegExp) {
  expect(run.stderr).toMatch(message);
  expect(run.stderr).not.toMatch(/\n\s+at /);
  expect(run.status).not.toBe(0);
}

test("a command exits silently when its reader closes the pipe", async () => {
  const piped = `"${process.execPath}" "${BIN}" chunks --store "${store}" --json | true`;
  expect(spawnSync("sh", ["-c", piped], { encoding: "utf8", cwd: home }).stderr).toBe("");
});

describe("ask", () => {
  test("answers from the documents and names its sources", async () => {
    const run = await kvsplice("ask", "Who was the first keeper of the lighthouse on Brenna Point?", "--store", store);
    expect(run.stdout).toMatch(/^Oda Halvorsen\n/);
    expect(run.stdout).toContain("lighthouse.md#1");
    expect(run.stdout).toContain("first token");
    expect(run.status).toBe(0);
  });

  test("--json prints one object with answer, sources, timing, tokens, and with --compare the full prefill", async () => {
    const run = await kvsplice("ask", "How long does the ferry at Dollis take?", "--store", store, "--json", "--compare", "--top-k", "2");
    const result = JSON.parse(run.stdout) as Record<string, Record<string, unknown> & string> & { sources: Record<string, unknown>[] };
    expect(Object.keys(result)).toEqual(["answer", "found", "sources", "timing", "tokens", "store", "full"]);
    expect(result["answer"]).toMatch(/four minutes/);
    expect(result.sources).toHaveLength(2);
    expect(result.sources[0]).toMatchObject({
      ref: "ferry.txt#1",
      path: join(docs, "ferry.txt"),
      title: "Marten ferry",
      score: expect.any(Number),
      text: expect.stringContaining("four minutes"),
    });
    expect(Object.keys(result["timing"]!)).toEqual([
      "retrieve_ms",
      "fetch_ms",
      "splice_ms",
      "look_ms",
      "first_token_ms",
      "per_token_ms",
      "total_ms",
    ]);
    for (const value of Object.values(result["timing"]!)) expect(value).toBeGreaterThanOrEqual(0);
    expect(result["store"]).toEqual({ memory: 0, disk: 3, missing: 0 });
    expect(Object.keys(result["tokens"]!)).toEqual(["cached", "encoded", "computed", "recomputed", "generated", "drafted", "accepted"]);
    expect(result["full"]).toEqual({ answer: expect.stringContaining("four minutes"), first_token_ms: expect.any(Number) });
  });

  test.each(["1", "4"])("adds %s link tokens after each document, computed with the question", async (count) => {
    const args = ["ask", "Who kept a diary of every ship?", "--store", store, "--top-k", "2", "--json"];
    const computed = async (links: string) =>
      (JSON.parse((await kvsplice(...args, "--link-tokens", links)).stdout) as { tokens: { computed: number } }).tokens.computed;
    expect(await computed(count)).toBe((await computed("0")) + 2 * Number(count));
  });

  test("guesses from the documents with --prompt-lookup, and gives the same answer", async () => {
    const args = ["ask", "How long does the ferry at Dollis take?", "--store", store];
    const [plain, guessed] = [await kvsplice(...args), await kvsplice(...args, "--prompt-lookup", "3")].map(({ stdout }) => stdout);
    expect(guessed!.split("\n")[0]).toBe(plain!.split("\n")[0]);
    expect(guessed).toMatch(/computed, \d+ of [1-9]\d* guessed correctly/);
    expect(plain).not.toContain("guessed");
  });

  test.each([
    [["--top-k", "0"], /top-k\) is 0; choose/],
    [["--top-k", "many"], /whole number/],
    [["--link-tokens", "5"], /link tokens 0 to 4/],
    [["--prompt-lookup", "99"], /guess 99 tokens .* from 1 to 32/],
  ])("refuses %j, and says what to do", async (options, message) => {
    expectError(await kvsplice("ask", "Who kept a diary of every ship?", "--store", store, ...options), message);
  });

  test("reports that nothing was found, and generates nothing; --no-floor uses the nearest documents", async () => {
    const nothing = await kvsplice("ask", "Who is the CEO of Nvidia?", "--store", store);
    expect(nothing).toMatchObject({
      status: 0,
      stderr: "",
      stdout: expect.stringMatching(/^Nothing in the documents answers that \(the best match scores 0\.\d\d\)\..*--no-floor\.\n$/),
    });
    expect(JSON.parse((await kvsplice("ask", "hello", "--store", store, "--json")).stdout)).toEqual({
      answer: null,
      found: false,
      best_score: expect.any(Number),
      sources: [],
    });
    expect(JSON.parse((await kvsplice("ask", "hello", "--store", store, "--json", "--no-floor", "--top-k", "1")).stdout)).toMatchObject({
      found: true,
      sources: [{}],
    });
    expectError(await kvsplice("ask", "Who?", "--store", store, "--floor", "2"), /number from 0 to 1/);
  });

  test("--json-schema answers with JSON that matches the schema", async () => {
    const file = join(home, "keeper.json");
    const ask = () =>
      kvsplice("ask", "Who was the first keeper of the lighthouse on Brenna Point?", "--store", store, "--json", "--json-schema", file);
    writeFileSync(
      file,
      JSON.stringify({
        type: "object",
        properties: { keeper: { type: "string", maxLength: 30 }, year: { type: "integer", minimum: 1800, maximum: 1900 } },
        required: ["keeper", "year"],
        additionalProperties: false,
      }),
    );
    const { answer } = JSON.parse((await ask()).stdout) as { answer: string };
    expect(JSON.parse(answer)).toEqual({ keeper: expect.any(String), year: expect.any(Number) });
    writeFileSync(file, JSON.stringify({ not: {} }));
    expectError(await ask(), /"not" is not supported/);
    writeFileSync(file, "{");
    expectError(await ask(), /keeper\.json cannot be read as a JSON Schema/);
    rmSync(file);
    expectError(await ask(), /keeper\.json cannot be read as a JSON Schema/);
  });

  test("--where restricts the documents", async () => {
    const asked = (...where: string[]) =>
      kvsplice("ask", "Who was the first keeper of the lighthouse on Brenna Point?", "--store", store, "--json", "--where", ...where);
    const result = JSON.parse((await asked("path=*.md", "date>=2020")).stdout) as { sources: Record<string, unknown>[] };
    expect(result.sources).toMatchObject([{ ref: "lighthouse.md#1", date: expect.stringMatching(/^20\d\d-/) }]);
    expectError(await asked("team=ops"), /"team"; there are path, title, page, date/);
    expectError(await asked("path"), /KEY=VALUE/);
  });

  test("refuses an empty question and a question longer than the context", async () => {
    expectError(await kvsplice("ask", "  ", "--store", store), /question is empty/);
    const long = "why ".repeat(9000);
    expectError(spawned(long, "ask", "-", "--store", store), /question takes 9\d{3} tokens .* holds 8192; ask a shorter question/);
    expectError(await kvsplice("ask", long, "--store", store), /question has 36000 characters\. Shorten it/);
  });

  test("refuses a folder without a corpus", async () => {
    expectError(await kvsplice("ask", "Who?", "--store", join(home, "nowhere")), /precompute/);
  });

  test("reports a damaged block, encodes it again, and answers as before", async () => {
    const places = placesOf(store);
    for (const place of places) await flip(fileOf(store), place + 5000, 1);
    expect(places.length).toBeGreaterThanOrEqual(3);
    const args = ["ask", "Who was the first keeper of the lighthouse on Brenna Point?", "--store", store];
    const run = await kvsplice(...args);
    expect(run.stderr).toMatch(/warning: block .* is damaged; it will be encoded again/);
    expect(run.stdout).toMatch(/^Oda Halvorsen\n/);
    expect((await kvsplice(...args)).stderr).not.toMatch(/warning/);
  });
});

describe("chunks", () => {
  test("lists refs with titles and tokens, and prints the text of a ref", async () => {
    expect((await kvsplice("chunks", "--store", store)).stdout).toMatch(
      /^bread\.html#1 Sourdough, \d+ tokens\nferry\.txt#1 Marten ferry, \d+ tokens\nlighthouse\.md#1 Brenna Point, \d+ tokens\n$/,
    );
    expect((await kvsplice("chunks", "ferry.txt", "--store", store)).stdout).toContain("crosses the river Marten in four minutes");
    const [first] = (await kvsplice("chunks", "--store", store, "--json")).stdout.split("\n");
    expect(JSON.parse(first!)).toEqual({
      ref: "bread.html#1",
      path: join(docs, "bread.html"),
      title: "Sourdough",
      text: expect.any(String),
      tokens: expect.any(Number),
    });
    expectError(await kvsplice("chunks", "fery.txt", "--store", store), /did you mean `ferry\.txt`/);
  });
});

describe("precompute", () => {
  test("a second run encodes nothing; a changed file is encoded, and a deleted file's chunks are removed", async () => {
    const folder = mkdtempSync(join(home, "docs-"));
    const other = join(home, "changing");
    for (const [name, text] of Object.entries(ARTICLES)) writeFileSync(join(folder, name), text);
    expect(reportOf(await precompute(folder, "--store", other))).toMatchObject({
      files: 3,
      chunks: 3,
      encoded: 3,
      unchanged: 0,
      removed: 0,
    });
    expect(reportOf(await precompute(folder, "--store", other))).toMatchObject({ files: 3, chunks: 3, encoded: 0, unchanged: 3 });
    writeFileSync(join(folder, "ferry.txt"), `${ARTICLES["ferry.txt"]} It is painted blue.`);
    rmSync(join(folder, "bread.html"));
    expect(reportOf(await precompute(folder, "--store", other))).toMatchObject({
      files: 2,
      chunks: 2,
      encoded: 1,
      unchanged: 1,
      removed: 1,
    });
  });

  test("--precision stores KV in fewer bytes than float32; ask reads it from the store, which accepts no other precision", async () => {
    const bytes: number[] = [];
    for (const precision of ["float32", "float16", "int8"]) {
      const target = join(home, precision);
      expect((await precompute(join(docs, "lighthouse.md"), "--store", target, "--precision", precision)).status).toBe(0);
      const store = openDiskStore(target);
      bytes.push(await store.tiers[0]!.bytes());
      await store.close();
    }
    expect(bytes[1]! / bytes[0]!).toBeLessThan(0.51);
    expect(bytes[2]! / bytes[0]!).toBeLessThan(0.3);
    const run = await kvsplice("ask", "Who was the first keeper of the lighthouse on Brenna Point?", "--store", join(home, "float16"));
    expect(run.stdout).toMatch(/^Oda Halvorsen\n/);
    expect(run.stderr).toBe("");
    expectError(
      await precompute(docs, "--store", join(home, "float16"), "--precision", "int8"),
      /keeps its KV as float16, not as int8; use that precision/,
    );
    expectError(
      await precompute(docs, "--store", join(home, "other"), "--precision", "int4"),
      /Allowed choices are float32, float16, int8/,
    );
  });

  test("reports what cannot be read with a reason, and continues with the rest", async () => {
    const folder = mkdtempSync(join(home, "odd-"));
    writeFileSync(join(folder, "good.md"), ARTICLES["lighthouse.md"]);
    writeFileSync(join(folder, "empty.md"), "");
    writeFileSync(join(folder, "binary.txt"), Buffer.from([0, 1, 2, 255, 254, 0, 9]));
    writeFileSync(join(folder, "broken.pdf"), "%PDF-1.7 and then nothing");
    writeFileSync(join(folder, "lines.jsonl"), '{"title":"A","text":"Some text here."}\nnot json\n');
    const report = reportOf(await precompute(folder, "--store", join(home, "odd")));
    expect(report.chunks).toBe(2);
    expect(report.problems.map(({ path }) => path.split("/").at(-1)).sort()).toEqual([
      "binary.txt",
      "broken.pdf",
      "empty.md",
      "lines.jsonl",
    ]);
    for (const { reason } of report.problems) expect(reason.length).toBeGreaterThan(20);
  });

  test("counts ignored files; with --strict they are an error, and a run that reads nothing always is", async () => {
    const folder = mkdtempSync(join(home, "mixed-"));
    writeFileSync(join(folder, "good.md"), ARTICLES["lighthouse.md"]);
    writeFileSync(join(folder, "a.png"), "x");
    writeFileSync(join(folder, "b.png"), "x");
    const args = ["precompute", folder, "--store", join(home, "mixed")];
    const run = await kvsplice(...args);
    expect(run.stdout).toMatch(/^1 file \(0 unchanged, 0 removed\): 1 chunk encoded in .*\n.* contains 1 chunk, \d+ tokens\.\n$/);
    expect(run.stderr).toBe("ignored 2 .png\n");
    expect(run.status).toBe(0);
    expect(reportOf(await kvsplice(...args, "--json"))).toMatchObject({ refused: 0, passedOver: { ".png": 2 }, problems: [] });
    expectError(await kvsplice(...args, "--strict"), /0 problems, 2 files ignored \(--strict\)/);
    expectError(await kvsplice("precompute", join(folder, "a.png"), "--store", join(home, "mixed")), /None of 1 file could be read/);
  });

  test("refuses a name that does not exist, and files without text", async () => {
    expectError(await kvsplice("precompute", join(home, "missing.md"), "--store", store), /missing\.md/);
    const empty = mkdtempSync(join(home, "empty-"));
    expectError(await kvsplice("precompute", empty, "--store", join(home, "none")), /nothing to answer from/);
  });

  test("after a kill, the next run resumes and completes", async () => {
    const folder = mkdtempSync(join(home, "many-"));
    for (let i = 0; i < 12; i++)
      writeFileSync(
        join(folder, `${i}.md`),
        `# Article ${i}\n\n${`Sentence ${i} of the article says something about the number ${i * 7}. `.repeat(8)}`,
      );
    const target = join(home, "killed");
    const child = spawn(process.execPath, [BIN, "precompute", folder, "--store", target, "--json"], { stdio: "ignore" });
    while (!readdirSync(home).includes("killed") || (await storedBlocks(target)) < 3) await new Promise((wake) => setTimeout(wake, 20));
    child.kill("SIGKILL");
    await once(child, "exit");
    const before = await storedBlocks(target);
    const report = reportOf(await precompute(folder, "--store", target));
    expect(report).toMatchObject({ files: 12, encoded: report.chunks - before });
    expect(before).toBeGreaterThan(0);
    expect(await storedBlocks(target)).toBe(report.chunks);
  });

  test("Ctrl-C stops it with exit code 130 and keeps what was stored", async () => {
    const folder = mkdtempSync(join(home, "stopped-"));
    for (let i = 0; i < 40; i++)
      writeFileSync(join(folder, `${i}.md`), `# Subject ${i}\n\n${`Line ${i} speaks of the colour of the number ${i * 3}. `.repeat(8)}`);
    const target = join(home, "interrupted");
    const child = spawn(process.execPath, [BIN, "precompute", folder, "--store", target]);
    let stderr = "";
    child.stderr.on("data", (part) => (stderr += part));
    while (!readdirSync(home).includes("interrupted") || (await storedBlocks(target)) < 2)
      await new Promise((wake) => setTimeout(wake, 20));
    child.kill("SIGINT");
    expect((await once(child, "exit"))[0]).toBe(130);
    expect(stderr).toMatch(/Cancelled. What was stored is kept./);
    expect(await storedBlocks(target)).toBeGreaterThanOrEqual(2);
  });

  test("two concurrent runs on one store both succeed", async () => {
    const target = join(home, "shared");
    const runs = [0, 1].map(() => spawn(process.execPath, [BIN, "precompute", docs, "--store", target, "--json"], { stdio: "ignore" }));
    for (const run of runs.map((child) => once(child, "exit"))) expect((await run)[0]).toBe(0);
    expect(reportOf(await precompute(docs, "--store", target))).toMatchObject({ chunks: 3, encoded: 0, unchanged: 3 });
  });

  const small = mountSmall("16m");
  test.skipIf(!small)(
    "reports a full disk (tmpfs of 16 MiB), loses nothing stored, and the next run resumes when there is space",
    async () => {
      const folder = mkdtempSync(join(home, "large-"));
      for (let i = 0; i < 10; i++)
        writeFileSync(join(folder, `${i}.md`), `# Topic ${i}\n\n${`Statement ${i} of the topic tells the number ${i * 11}. `.repeat(6)}`);
      try {
        expectError(await precompute(folder, "--store", small!, "--precision", "float32"), /No space is left/);
        const before = await storedBlocks(small!);
        expect(before).toBeGreaterThan(0);
        fill(small!);
        const ask = ["ask", "What number does topic 0 tell?", "--store", small!];
        expect((await kvsplice(...ask, "--disk-budget", "1KB")).stderr).toMatch(/warning: .* could not be stored. The disk budget/);
        expect((await kvsplice(...ask)).status).toBe(0);
        rmSync(join(small!, "filler"));
        execFileSync("mount", ["-o", "remount,size=100m", small!]);
        const report = reportOf(await precompute(folder, "--store", small!));
        expect(report.encoded).toBe(report.chunks - before);
        expect(await storedBlocks(small!)).toBeGreaterThanOrEqual(report.chunks); // and perhaps the answer's block
      } finally {
        execFileSync("umount", [small!]);
      }
    },
  );

  test.skipIf(process.getuid?.() === 0)("reports a store without permission", async () => {
    const locked = mkdtempSync(join(home, "locked-"));
    chmodSync(locked, 0o500);
    expectError(await kvsplice("precompute", docs, "--store", locked), /permission/i);
  });
});

test("--help of every command shows examples", async () => {
  for (const command of ["precompute", "ask"]) expect((await kvsplice(command, "--help")).stdout).toMatch(/Examples:\n {2}\$ kvsplice/);
});

async function storedBlocks(target: string): Promise<number> {
  return (await storedKeys(target)).length;
}
