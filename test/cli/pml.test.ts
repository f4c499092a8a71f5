import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { storedKeys } from "../engine/stored-bytes.js";

/** The command as it is installed; `npm test` builds it first. */
const BIN = new URL("../../dist/cli/main.js", import.meta.url).pathname;
const EXAMPLES = new URL("../../examples/pml", import.meta.url).pathname;

const SCHEMA = `<schema name="trip">
  <system>You answer questions from the given documents.</system>
  <user open="true">
    <module name="plan">
      The traveller stays for <parameter name="days" length="6"/>.
      <union>
        <module name="miami">Miami is warm, wet and loud.</module>
        <module name="tokyo" src="tokyo.md"/>
      </union>
    </module>
    <module name="today" cache="false">It rains today.</module>
  </user>
</schema>
`;
const PROMPT = `<prompt schema="trip">
  <plan days="three days">
    <tokyo/>
  </plan>
  <today/>
  What is the weather like today?
</prompt>
`;

let home: string;
let folders = 0;

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-pml-"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

const PAGE = readFileSync(new URL("../../docs/pml.md", import.meta.url), "utf8");

/** A folder with the trip's files and others, which is the commands' own from then on. */
function folderOf(files: Readonly<Record<string, string>>) {
  const folder = join(home, String(folders++));
  mkdirSync(folder);
  for (const [name, text] of Object.entries({ "tokyo.md": "Tokyo never sleeps.\n", "trip.pml": SCHEMA, "packing.pml": PROMPT, ...files })) {
    writeFileSync(join(folder, name), text);
  }
  const run = (input: string | undefined, args: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, "pml", ...args], { encoding: "utf8", cwd: folder, ...(input !== undefined && { input }) });
    return { status, stdout, stderr };
  };
  const pml = Object.assign((...args: string[]) => run(undefined, args), { reading: (input: string) => (...args: string[]) => run(input, args) });
  return { folder, pml, text: (name: string) => readFileSync(join(folder, name), "utf8") };
}

describe("check", () => {
  test("is content with files that are right, whatever their order", () => {
    const { pml } = folderOf({ "miami.pml": `<prompt schema="trip"><plan days="two days"><miami/></plan>Go.</prompt>` });
    expect(pml("check", "packing.pml", "miami.pml", "trip.pml")).toEqual({ status: 0, stdout: "3 files: 0 errors, 0 warnings.\n", stderr: "" });
  });

  test("tells all errors of all files with line and caret, and ends with 1", () => {
    const { pml } = folderOf({
      "packing.pml": PROMPT.replace("<tokyo/>", "<toyko/>").replace("three days", "three long days and then some more of them"),
      "other.pml": `<schema name="other"><module name="m" src="no.md"/></schema>`,
      "broken.pml": `<schema name="b"><module></schema>`,
    });
    const { status, stdout } = pml("check", "trip.pml", "packing.pml", "other.pml", "broken.pml");
    expect(status).toBe(1);
    expect(stdout).toContain("packing.pml:3:6: error: no module `toyko` in `plan`; did you mean `tokyo`? [unknown-module]\n  3 |     <toyko/>\n    |      ^^^^^\n");
    expect(stdout).toMatch(/packing\.pml:2:15: error: the argument `days` of `plan` is \d+ tokens long; its parameter reserves 6 \[argument-too-long\]/);
    expect(stdout).toMatch(/other\.pml:1:44: error: cannot read `no\.md`: there is no such file/);
    expect(stdout).toMatch(/broken\.pml:1:\d+: error:.*\[unclosed-element\]/);
    expect(stdout).toContain("4 files: 4 errors, 0 warnings.");
  });

  test("counts what no prompt uses, lists it with --usage, and ends with 0", () => {
    const { pml } = folderOf({});
    expect(pml("check", "trip.pml", "packing.pml")).toMatchObject({ status: 0, stdout: "2 files: 0 errors, 0 warnings. No given prompt uses 1 module; --usage lists them.\n" });
    const { status, stdout } = pml("check", "trip.pml", "packing.pml", "--usage");
    expect(stdout).toMatch(/trip\.pml:7:10: warning: no given prompt includes `plan\/miami` \[unused-module\]/);
    expect(stdout).toContain("2 files: 0 errors, 1 warning.\n");
    expect(status).toBe(0);
  });

  test("reads standard input where - stands, with files relative to the working folder", () => {
    const { pml } = folderOf({});
    expect(pml.reading(SCHEMA)("check", "-", "packing.pml").status).toBe(0);
    expect(pml.reading(PROMPT.replace("<tokyo/>", "<toyko/>"))("check", "trip.pml", "-").stdout).toContain("stdin:3:6: error: no module `toyko`");
    expect(pml.reading(PROMPT)("format", "-").stdout).toBe(PROMPT);
  });

  test("a mark in text is told of with the section that may hold it", () => {
    const { pml } = folderOf({ "code.pml": `<schema name="code">\n  <module name="m">if a < b && c</module>\n</schema>` });
    expect(pml("check", "code.pml").stdout).toMatch(/code\.pml:2:25: error: .*`&lt;`.*`<!\[CDATA\[` \.\.\. `\]\]>`.*\[bad-xml\]/);
  });

  test("text of no message is told of, with what becomes of it", () => {
    const { pml } = folderOf({ "packing.pml": PROMPT.replace("<today/>", "<today/><system>Be brief.</system>") });
    const { status, stdout } = pml("check", "trip.pml", "packing.pml", "--usage");
    expect(stdout).toMatch(/warning: this stands outside of any message and becomes a user's; write `<user>` around it \[text-outside-message\]/);
    expect(status).toBe(0);
  });

  test("a prompt's schema is found by its name: none, and two, are told", () => {
    const { pml } = folderOf({ "again.pml": SCHEMA });
    expect(pml("check", "packing.pml").stdout).toMatch(/packing\.pml:1:17: error: no given file has the schema `trip`; name its file too/);
    expect(pml("check", "packing.pml", "trip.pml", "again.pml").stdout).toContain("`trip.pml` and `again.pml` are both schema `trip`; name one of them");
  });

  test("an error of a broken schema is not told of its prompts too", () => {
    const { pml } = folderOf({ "trip.pml": SCHEMA.replace("</union>", "") });
    const { stdout, status } = pml("check", "trip.pml", "packing.pml");
    expect(stdout).not.toContain("packing.pml:");
    expect(status).toBe(1);
  });

  test("a file of neither kind, and one that is not there", () => {
    const { pml } = folderOf({ "page.pml": "<html/>" });
    const { stdout, status } = pml("check", "page.pml", "gone.pml");
    expect(stdout).toContain("a schema begins with `<schema>`, and a prompt begins with `<prompt>` [wrong-root]");
    expect(stdout).toContain("cannot read `gone.pml`: there is no such file");
    expect(status).toBe(1);
  });

  test("--json has the diagnostics with their places", () => {
    const { pml } = folderOf({ "packing.pml": PROMPT.replace("<tokyo/>", "<toyko/>") });
    const { stdout, status } = pml("check", "packing.pml", "trip.pml", "--json");
    const result = JSON.parse(stdout) as { files: unknown; errors: number; diagnostics: unknown[] };
    expect(result).toMatchObject({ files: [{ file: "packing.pml", kind: "prompt" }, { file: "trip.pml", kind: "schema" }], errors: 1 });
    expect(result.diagnostics[0]).toMatchObject({ code: "unknown-module", severity: "error", place: { file: "packing.pml", line: 3, column: 6, endColumn: 11 } });
    expect(status).toBe(1);
  });

  test("reads files outside of the schema's folder when it is allowed to", () => {
    const { folder, pml } = folderOf({});
    writeFileSync(join(folder, "..", "outside.md"), "Outside.");
    writeFileSync(join(folder, "s.pml"), `<schema name="s"><module name="m" src="../outside.md"/></schema>`);
    expect(pml("check", "s.pml").stdout).toContain("[outside-folder]");
    expect(pml("check", "s.pml", "--allow-outside").status).toBe(0);
  });
});

describe("format", () => {
  const UGLY = `<prompt schema="trip"><plan   days='three days'>\n<tokyo/></plan><today/> What is the weather like today?</prompt>`;

  test("prints, checks and writes the one layout", () => {
    const { pml, text } = folderOf({ "packing.pml": UGLY });
    expect(pml("format", "packing.pml").stdout).toBe(PROMPT);
    expect(pml("format", "trip.pml", "packing.pml", "--check")).toMatchObject({ status: 1, stdout: "packing.pml\n" });
    expect(text("packing.pml")).toBe(UGLY);
    expect(pml("format", "trip.pml", "packing.pml", "--write")).toMatchObject({ status: 0, stdout: "packing.pml\n" });
    expect(text("packing.pml")).toBe(PROMPT);
    expect(pml("format", "trip.pml", "packing.pml", "--check")).toMatchObject({ status: 0, stdout: "" });
  });

  test("leaves a file with errors as it is, and goes on with the others", () => {
    const broken = UGLY.replace("</plan>", "");
    const { pml, text } = folderOf({ "broken.pml": broken, "packing.pml": UGLY });
    const { status, stderr } = pml("format", "broken.pml", "gone.pml", "packing.pml", "--write");
    expect(stderr).toMatch(/broken\.pml:\d+:\d+: error:/);
    expect(stderr).toContain("gone.pml");
    expect(status).toBe(1);
    expect(text("broken.pml")).toBe(broken);
    expect(text("packing.pml")).toBe(PROMPT);
  });
});

describe("show", () => {
  test("the tree has tokens and positions, and the prompt its cached share", () => {
    const { pml } = folderOf({});
    const { stdout } = pml("show", "trip.pml", "packing.pml");
    expect(stdout).toMatch(/^positions {2}tokens\n +0–\d+ +\d+ {2}trip\n/);
    expect(stdout).toMatch(/ 6 .*├ parameter days\n/);
    expect(stdout).toMatch(/miami – left out\n/);
    expect(stdout).toMatch(/today \(computed each time\)\n/);
    expect(stdout).toMatch(/The prompt: \d+ tokens from the cache \(\d+ %\), \d+ computed/);
  });

  test("--json is the same as data: members of a union share a start, and tokens add up", () => {
    const { pml } = folderOf({});
    const { prompt, tree, length } = JSON.parse(pml("show", "trip.pml", "packing.pml", "--json").stdout);
    const [plan, today] = tree.children;
    const [days, union] = plan.children;
    expect(days).toMatchObject({ kind: "parameter", name: "days", tokens: 6, end: days.start + 6 });
    expect(union.children.map(({ name, start, included }: Record<string, unknown>) => [name, start, included])).toEqual([
      ["miami", union.start, false],
      ["tokyo", union.start, true],
    ]);
    expect(today.end).toBe(length);
    expect(prompt.modules).toEqual(["plan", "plan/tokyo", "today"]);
    expect(prompt.tokens.cached).toBe(tree.tokens + plan.tokens + union.children[1].tokens);
    expect(prompt.cached_share).toBeCloseTo(prompt.tokens.cached / (prompt.tokens.cached + prompt.tokens.computed), 10);
  });

  test("10,000 modules stay readable: the outer levels, what the prompt includes, and counts of the rest", () => {
    const groups = Array.from({ length: 100 }, (_, i) => `<module name="g${i}"><union>${Array.from({ length: 99 }, (_, j) => `<module name="m${j}">Rule ${j}.</module>`).join("")}</union></module>`);
    const { pml } = folderOf({ "large.pml": `<schema name="large">${groups.join("")}</schema>`, "ask.pml": `<prompt schema="large"><g77><m55/></g77>Why?</prompt>` });
    const { stdout } = pml("show", "large.pml", "ask.pml");
    const lines = stdout.split("\n");
    expect(lines.length).toBeLessThan(100);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(100);
    expect(lines.some((line) => line.endsWith(" m55"))).toBe(true);
    const shown = lines.filter((line) => /[├└] [gm]\d+/.test(line)).length;
    const counted = [...stdout.matchAll(/… (\d+) more module/g)].reduce((sum, [, number]) => sum + Number(number), 0);
    expect(shown + counted).toBe(10_000);
  });

  test("errors of the markup, and files in the wrong place, are told with what to do", () => {
    const { pml } = folderOf({ "packing.pml": PROMPT.replace("<tokyo/>", "<toyko/>"), "docs.pml": `<prompt schema="trip"><document ref="a"/>Go.</prompt>` });
    const wrong = pml("show", "trip.pml", "packing.pml");
    expect(wrong.stderr).toMatch(/Mend the markup first:\npacking\.pml:3:6: error: no module `toyko`/);
    expect(wrong.status).toBe(1);
    expect(pml("show", "packing.pml", "trip.pml").stderr).toContain("packing.pml holds a prompt, and a schema is wanted");
    expect(pml("run", "trip.pml", "docs.pml").stderr).toContain("Documents come from a corpus: --corpus DIR");
    expect(pml("run", "trip.pml", "gone.pml").stderr).toContain("cannot read `gone.pml`");
  });
});

describe("precompute and run", () => {
  test("precompute fills the store once; run takes all modules from it", () => {
    const { pml } = folderOf({});
    expect(JSON.parse(pml("precompute", "trip.pml", "--store", "kv", "--json").stdout)).toMatchObject({ blocks: 4, encoded: 4, stored: 0 });
    expect(pml("precompute", "trip.pml", "--store", "kv").stdout).toMatch(/4 blocks of trip\.pml: 0 encoded .* 4 stored before/);
    const shown = JSON.parse(pml("show", "trip.pml", "packing.pml", "--json").stdout).prompt.tokens;
    const run = JSON.parse(pml("run", "trip.pml", "packing.pml", "--store", "kv", "--compare", "--json").stdout);
    expect(Object.keys(run)).toEqual(["answer", "timing", "tokens", "modules", "scaffolds", "compare"]);
    expect(run.tokens).toMatchObject({ ...shown, encoded: 0 });
    expect(run.timing).toMatchObject({ encode_ms: 0, first_token_ms: expect.any(Number) });
    expect(run.compare.uncached.tokens).toMatchObject({ cached: 0, computed: shown.cached + shown.computed });
    expect(run.compare.natural.tokens.cached).toBe(0);
    for (const { kl } of [run.compare, run.compare.uncached]) expect(kl).toBeGreaterThan(0);
  });

  test("run keeps in the store what it lacked, and streams at most --max-tokens", () => {
    const { pml } = folderOf({});
    const first = pml("run", "trip.pml", "packing.pml", "--store", "kv", "--max-tokens", "1");
    expect(first.stdout).toMatch(/tokens of modules were encoded first, in \d+ ms \(kept in kv\)/);
    const again = JSON.parse(pml("run", "trip.pml", "packing.pml", "--store", "kv", "--max-tokens", "1", "--json").stdout);
    expect(again.tokens).toMatchObject({ generated: 1, encoded: 0 });
    expect(pml("run", "trip.pml", "packing.pml", "--max-tokens", "0").stderr).toContain("whole number from 1");
  });

  test("without a store run says so, and --compare prints both times", () => {
    const { stdout } = folderOf({}).pml("run", "trip.pml", "packing.pml", "--max-tokens", "2", "--compare");
    expect(stdout).toContain("--store DIR keeps them");
    expect(stdout).toMatch(/First token after \d+ ms without the cache, after \d+ ms with it: [\d.]+ times sooner\./);
  });

  test("Ctrl-C ends precompute with exit code 130, and the next run goes on", async () => {
    const { folder, pml } = folderOf({ "long.pml": longSchema(60) });
    const child = spawn(process.execPath, [BIN, "pml", "precompute", "long.pml", "--store", "kv"], { cwd: folder });
    let stderr = "";
    child.stderr.on("data", (part) => (stderr += part));
    while ((await storedBlocks(folder)) < 2) await new Promise((wake) => setTimeout(wake, 20));
    child.kill("SIGINT");
    expect((await once(child, "exit"))[0]).toBe(130);
    expect(stderr).toContain("Cancelled. What was stored is kept.");
    const before = await storedBlocks(folder);
    expect(JSON.parse(pml("precompute", "long.pml", "--store", "kv", "--json").stdout)).toMatchObject({ blocks: 60, stored: before, encoded: 60 - before });
  });
});

describe("Ctrl-C ends run with exit code 130", () => {
  /** Runs a prompt of 12 long modules until `until` is true, then sends the signal. */
  async function interrupted(folder: string, until: (stdout: string) => boolean | Promise<boolean>, ...options: string[]) {
    const child = spawn(process.execPath, [BIN, "pml", "run", "long.pml", "ask.pml", "--store", "kv", ...options], { cwd: folder });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (part) => (stdout += part));
    child.stderr.on("data", (part) => (stderr += part));
    while (!(await until(stdout)) && child.exitCode === null) await new Promise((wake) => setTimeout(wake, 20));
    child.kill("SIGINT");
    const [code] = await once(child, "exit");
    return { code, stderr };
  }
  const includes = Array.from({ length: 12 }, (_, i) => `<m${i}/>`).join("");

  test("while modules are encoded, and in the middle of a prefill; what was encoded is kept", async () => {
    const { folder, pml } = folderOf({ "long.pml": longSchema(12), "ask.pml": `<prompt schema="long">${includes}Which number?</prompt>` });
    const encoding = await interrupted(folder, async () => (await storedBlocks(folder)) >= 2);
    expect(encoding).toEqual({ code: 130, stderr: expect.stringContaining("Cancelled. What was stored is kept.") });
    const before = await storedBlocks(folder);
    expect(before).toBeLessThan(12);

    const prefilling = await interrupted(folder, (stdout) => stdout.includes("nothing cached:"), "--compare", "--max-tokens", "1");
    expect(prefilling).toEqual({ code: 130, stderr: expect.stringContaining("Cancelled.") });
    expect(JSON.parse(pml("precompute", "long.pml", "--store", "kv", "--json").stdout)).toMatchObject({ blocks: 12, stored: 12, encoded: 0 });
  });
});

describe("documents of a corpus", () => {
  const kvsplice = (folder: string, command: string) => {
    const args = command.replaceAll("examples/", `${join(EXAMPLES, "..")}/`).split(" ");
    return spawnSync(process.execPath, [BIN, ...args], { encoding: "utf8", cwd: folder });
  };

  test("the documentation's commands print what it shows", () => {
    const files = Object.fromEntries(Array.from(PAGE.matchAll(/^```xml ((?:answer|designer)\.pml)\n(.*?)^```$/gms), ([, name = "", text = ""]) => [name, text]));
    const { folder, pml } = folderOf({ ...files, "typo.pml": `<prompt schema="answer"><document ref="forth-brige.md#2"/>Go.</prompt>` });
    const [, shown = ""] = /^```console\n(.*?)^```$/ms.exec(PAGE) ?? [];
    const steps = Array.from(shown.matchAll(/^\$ kvsplice (.*)\n((?:[^$].*\n)*)/gm), ([, command = "", output = ""]) => ({ command, output: output.trim() }));
    expect(steps.map(({ command }) => command.replace(/ -.*/, "").split(" ").slice(0, 2).join(" "))).toEqual([expect.stringMatching(/^precompute/), "chunks", "pml check", "pml run"]);
    for (const { command, output } of steps) expect(kvsplice(folder, command).stdout).toContain(output);

    const { tokens } = JSON.parse(pml("run", "answer.pml", "designer.pml", "--corpus", "bridges.kv", "--json").stdout);
    expect(tokens).toMatchObject({ encoded: 0, cached: 16 + 7 + 136 + 98 });
    const misspelt = pml("check", "answer.pml", "typo.pml", "--corpus", "bridges.kv");
    expect(misspelt.stdout).toMatch(/typo\.pml:1:40: error: .*; did you mean `forth-bridge\.md#2`\? \[unknown-document\]/);
    expect(misspelt.status).toBe(1);
  });

  test("a corpus of another kind of folder is refused", () => {
    const { pml } = folderOf({});
    for (const command of ["check", "show", "run"]) expect(pml(command, "trip.pml", "packing.pml", "--corpus", "nowhere").stderr).toContain("There is no corpus in nowhere");
  });
});

describe("the examples", () => {
  const PROMPTS = [
    ["support", "orange-ring", "no connection"],
    ["support", "reset", "ten seconds"],
    ["review", "query", "as parameters"],
    ["review", "timeout", "ten seconds"],
    ["classify", "review", "negative"],
    ["classify", "ticket", "billing"],
  ] as const;

  test.for(["support", "review", "classify", "contract", "tools", "tenants", "migration"])("%s is right, formatted, and all of it used", (name) => {
    const { pml } = folderOf({});
    const files = readdirSync(join(EXAMPLES, name)).filter((file) => file.endsWith(".pml")).map((file) => join(EXAMPLES, name, file));
    expect(pml("check", ...files, "--usage")).toEqual({ status: 0, stdout: `${files.length} files: 0 errors, 0 warnings.\n`, stderr: "" });
    expect(pml("format", ...files, "--check").stdout).toBe("");
  });

  test.for(PROMPTS)("%s/%s answers from its modules: %s", ([name, prompt, answer]) => {
    const { pml } = folderOf({});
    const run = JSON.parse(pml("run", join(EXAMPLES, name, "schema.pml"), join(EXAMPLES, name, `${prompt}.pml`), "--json").stdout);
    expect(run.answer).toContain(answer);
    expect(run.tokens.cached).toBeGreaterThan(5 * run.tokens.computed);
  });
});

describe("test", () => {
  test("cases pass and fail by what they expect, and exit codes tell", () => {
    const cases = (expect: object, data = {}) => JSON.stringify({ schema: "trip.pml", cases: [{ prompt: "packing.pml", data, max_tokens: 4, expect }] });
    const { pml } = folderOf({
      "right.json": cases({ contains: "" }),
      "wrong.json": cases({ equals: "no model says this", json: { type: "object" } }),
      "typo.json": cases({}, { plan: { dais: "3", days: { not: "text" } } }),
      "broken.json": `{"schema": 1}`,
    });
    const { status, stdout } = pml("test", "right.json", "wrong.json", "typo.json", "--json");
    const { cases: count, failed, results } = JSON.parse(stdout);
    expect([status, count, failed]).toEqual([1, 3, 2]);
    expect(results[0].failures).toEqual([]);
    expect(results[1].failures).toEqual([`is not "no model says this"`, "is not JSON"]);
    expect(results[2].failures[0]).toMatch(/`plan\/days` is .*a parameter takes text or a number[\s\S]*no parameter `dais` in `plan`; did you mean `days`\?/);
    expect(pml("test", "broken.json").stderr).toMatch(/broken\.json is not a file of cases/);
  });
});

test("a budget leaves out what has a priority, and says so", () => {
  const { pml } = folderOf({ "trip.pml": SCHEMA.replace('<module name="today"', '<module name="today" priority="1"') });
  const whole = JSON.parse(pml("render", "trip.pml", "packing.pml", "--json").stdout).tokens;
  const { stdout, stderr } = pml("render", "trip.pml", "packing.pml", "--budget", String(whole.cached + whole.computed - 1), "--json");
  expect(stderr).toMatch(/packing\.pml:5:4: warning: module `today` is left out.*\[module-left-out\]/);
  expect(JSON.parse(stdout).text).not.toContain("rains");
});

test("values of a program fill a prompt: run, render and export take them", () => {
  const { pml } = folderOf({ "values.json": JSON.stringify({ plan: { days: "four <days>", tokyo: false, miami: true }, today: false }) });
  const { text } = JSON.parse(pml("render", "trip.pml", "packing.pml", "--data", "values.json", "--json").stdout);
  expect(text).toContain("The traveller stays for four <days>.\nMiami is warm, wet and loud.\nWhat is the weather");
  expect(pml("render", "trip.pml", "packing.pml", "--data", "gone.json").stderr).toContain("The values in gone.json cannot be read");
});

test("--help of every command shows examples", () => {
  const { pml } = folderOf({});
  for (const command of ["check", "format", "show", "render", "precompute", "run", "test", "import", "export", "lsp"]) expect(pml(command, "--help").stdout).toMatch(/Examples:\n {2}\$ kvsplice pml/);
});

/** Modules `m0`, `m1`, ... of about a hundred tokens each. */
function longSchema(count: number): string {
  const modules = Array.from({ length: count }, (_, i) => `<module name="m${i}">${`Sentence ${i} says something of the number ${i * 7}. `.repeat(8)}</module>`);
  return `<schema name="long">${modules.join("")}</schema>`;
}

async function storedBlocks(folder: string): Promise<number> {
  return (await storedKeys(join(folder, "kv"))).length;
}
