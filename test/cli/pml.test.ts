import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { pmlCommand } from "../../cli/pml.js";
import type { PmlAudit } from "../../cli/pml-measure.js";
import { storeCommand } from "../../cli/store-commands.js";
import { runCommand } from "../support/cli/in-process.js";
import { storedKeys } from "../support/engine/stored-bytes.js";

/** The installed command; `npm test` builds it first. */
const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const EXAMPLES = fileURLToPath(new URL("../../examples/pml", import.meta.url));

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

vi.mock("../../engine/index.js", async (original) => (await import("../support/cli/shared-models.js")).withSharedModels(await original()));

let home: string;
let folders = 0;

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-pml-"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

const PAGE = readFileSync(new URL("../../docs/pml.md", import.meta.url), "utf8");

/** A folder with the trip's files and others, for the commands to work in. */
function folderOf(files: Readonly<Record<string, string>>) {
  const folder = join(home, String(folders++));
  mkdirSync(folder);
  for (const [name, text] of Object.entries({ "tokyo.md": "Tokyo never sleeps.\n", "trip.pml": SCHEMA, "packing.pml": PROMPT, ...files })) {
    writeFileSync(join(folder, name), text);
  }
  /** Runs the command in its own process, with this as standard input. */
  const reading =
    (input: string) =>
    (...args: string[]) => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, "pml", ...args], { encoding: "utf8", cwd: folder, input });
      return { status, stdout, stderr };
    };
  const pml = Object.assign((...args: string[]) => runCommand(pmlCommand(), args, folder), { reading });
  return { folder, pml, text: (name: string) => readFileSync(join(folder, name), "utf8") };
}

describe("check", () => {
  test("accepts correct files in any order", async () => {
    const { pml } = folderOf({ "miami.pml": `<prompt schema="trip"><plan days="two days"><miami/></plan>Go.</prompt>` });
    expect(await pml("check", "packing.pml", "miami.pml", "trip.pml")).toEqual({
      status: 0,
      stdout: "3 files: 0 errors, 0 warnings.\n",
      stderr: "",
    });
  });

  test("reports all errors of all files with line and caret, and exits with 1", async () => {
    const { pml } = folderOf({
      "packing.pml": PROMPT.replace("<tokyo/>", "<toyko/>").replace("three days", "three long days and then some more of them"),
      "other.pml": `<schema name="other"><module name="m" src="no.md"/></schema>`,
      "broken.pml": `<schema name="b"><module></schema>`,
    });
    const { status, stdout } = await pml("check", "trip.pml", "packing.pml", "other.pml", "broken.pml");
    expect(status).toBe(1);
    expect(stdout).toContain(
      "packing.pml:3:6: error: no module `toyko` in `plan`; did you mean `tokyo`? [unknown-module]\n  3 |     <toyko/>\n    |      ^^^^^\n",
    );
    expect(stdout).toMatch(
      /packing\.pml:2:15: error: the argument `days` of `plan` is \d+ tokens long, but its parameter reserves 6 \[argument-too-long\]/,
    );
    expect(stdout).toMatch(/other\.pml:1:44: error: cannot read `no\.md`: there is no such file/);
    expect(stdout).toMatch(/broken\.pml:1:\d+: error:.*\[unclosed-element\]/);
    expect(stdout).toContain("4 files: 4 errors, 0 warnings.");
  });

  test("counts what no prompt uses, lists it with --usage, and exits with 0", async () => {
    const { pml } = folderOf({});
    expect(await pml("check", "trip.pml", "packing.pml")).toMatchObject({
      status: 0,
      stdout: "2 files: 0 errors, 0 warnings. 1 module not used by any prompt; --usage lists them.\n",
    });
    const { status, stdout } = await pml("check", "trip.pml", "packing.pml", "--usage");
    expect(stdout).toMatch(/trip\.pml:7:10: warning: no given prompt includes `plan\/miami` \[unused-module\]/);
    expect(stdout).toContain("2 files: 0 errors, 1 warning.\n");
    expect(status).toBe(0);
  });

  test("checks prompts with a program's values", async () => {
    const { pml } = folderOf({
      "packing.pml": `<prompt schema="trip"><today/>Go.</prompt>`,
      "right.json": JSON.stringify({ plan: { days: 3, tokyo: true } }),
      "wrong.json": JSON.stringify({ plan: { days: ["three"] } }),
    });
    const check = (...args: string[]) => pml("check", "trip.pml", "packing.pml", ...args);
    const unused = async (...args: string[]) => (await check("--usage", ...args)).stdout.match(/includes `[^`]+`/g);
    expect(await unused()).toEqual(["includes `plan`"]);
    expect(await unused("--data", "right.json")).toEqual(["includes `plan/miami`"]);
    expect(await check("--data", "wrong.json")).toMatchObject({ status: 1, stdout: expect.stringContaining("it takes text or a number") });
  });

  test("reads standard input for -, with files relative to the working folder", async () => {
    const { pml } = folderOf({});
    expect(pml.reading(SCHEMA)("check", "-", "packing.pml").status).toBe(0);
    expect(pml.reading(PROMPT.replace("<tokyo/>", "<toyko/>"))("check", "trip.pml", "-").stdout).toContain(
      "stdin:3:6: error: no module `toyko`",
    );
    expect(pml.reading(PROMPT)("format", "-").stdout).toBe(PROMPT);
  });

  test("reports a mark in text with the section that may contain it", async () => {
    const { pml } = folderOf({ "code.pml": `<schema name="code">\n  <module name="m">if a < b && c</module>\n</schema>` });
    expect((await pml("check", "code.pml")).stdout).toMatch(/code\.pml:2:25: error: .*`&lt;`.*`<!\[CDATA\[` \.\.\. `\]\]>`.*\[bad-xml\]/);
  });

  test("reports text outside messages, and what becomes of it", async () => {
    const { pml } = folderOf({ "packing.pml": PROMPT.replace("<today/>", "<today/><system>Be brief.</system>") });
    const { status, stdout } = await pml("check", "trip.pml", "packing.pml", "--usage");
    expect(stdout).toMatch(/warning: this is outside any message and becomes a user message; wrap it in `<user>` \[text-outside-message\]/);
    expect(status).toBe(0);
  });

  test("finds a prompt's schema by name, and reports if there is none or there are two", async () => {
    const { pml } = folderOf({ "again.pml": SCHEMA });
    expect((await pml("check", "packing.pml")).stdout).toMatch(
      /packing\.pml:1:17: error: none of the given files defines schema `trip`; name its file too/,
    );
    expect((await pml("check", "packing.pml", "trip.pml", "again.pml")).stdout).toContain(
      "`trip.pml` and `again.pml` both define schema `trip`; name only one of them",
    );
  });

  test("does not repeat the error of a broken schema for its prompts", async () => {
    const { pml } = folderOf({ "trip.pml": SCHEMA.replace("</union>", "") });
    const { stdout, status } = await pml("check", "trip.pml", "packing.pml");
    expect(stdout).not.toContain("packing.pml:");
    expect(status).toBe(1);
  });

  test("reports a file that is neither schema nor prompt, and a missing file", async () => {
    const { pml } = folderOf({ "page.pml": "<html/>" });
    const { stdout, status } = await pml("check", "page.pml", "gone.pml");
    expect(stdout).toContain("a schema begins with `<schema>`, and a prompt begins with `<prompt>` [wrong-root]");
    expect(stdout).toContain("cannot read `gone.pml`: there is no such file");
    expect(status).toBe(1);
  });

  test("--json prints the diagnostics with their places", async () => {
    const { pml } = folderOf({ "packing.pml": PROMPT.replace("<tokyo/>", "<toyko/>") });
    const { stdout, status } = await pml("check", "packing.pml", "trip.pml", "--json");
    const result = JSON.parse(stdout) as { files: unknown; errors: number; diagnostics: unknown[] };
    expect(result).toMatchObject({
      files: [
        { file: "packing.pml", kind: "prompt" },
        { file: "trip.pml", kind: "schema" },
      ],
      errors: 1,
    });
    expect(result.diagnostics[0]).toMatchObject({
      code: "unknown-module",
      severity: "error",
      place: { file: "packing.pml", line: 3, column: 6, endColumn: 11 },
    });
    expect(status).toBe(1);
  });

  test("reads files outside the schema's folder if allowed", async () => {
    const { folder, pml } = folderOf({});
    writeFileSync(join(folder, "..", "outside.md"), "Outside.");
    writeFileSync(join(folder, "s.pml"), `<schema name="s"><module name="m" src="../outside.md"/></schema>`);
    expect((await pml("check", "s.pml")).stdout).toContain("[outside-folder]");
    expect((await pml("check", "s.pml", "--allow-outside")).status).toBe(0);
  });
});

describe("format", () => {
  const UGLY = `<prompt schema="trip"><plan   days='three days'>\n<tokyo/></plan><today/> What is the weather like today?</prompt>`;

  test("prints, checks and writes the standard layout", async () => {
    const { pml, text } = folderOf({ "packing.pml": UGLY });
    expect((await pml("format", "packing.pml")).stdout).toBe(PROMPT);
    expect(await pml("format", "trip.pml", "packing.pml", "--check")).toMatchObject({ status: 1, stdout: "packing.pml\n" });
    expect(text("packing.pml")).toBe(UGLY);
    expect(await pml("format", "trip.pml", "packing.pml", "--write")).toMatchObject({ status: 0, stdout: "packing.pml\n" });
    expect(text("packing.pml")).toBe(PROMPT);
    expect(await pml("format", "trip.pml", "packing.pml", "--check")).toMatchObject({ status: 0, stdout: "" });
  });

  test("does not change a file with errors, and continues with the others", async () => {
    const broken = UGLY.replace("</plan>", "");
    const { pml, text } = folderOf({ "broken.pml": broken, "packing.pml": UGLY });
    const { status, stderr } = await pml("format", "broken.pml", "gone.pml", "packing.pml", "--write");
    expect(stderr).toMatch(/broken\.pml:\d+:\d+: error:/);
    expect(stderr).toContain("gone.pml");
    expect(status).toBe(1);
    expect(text("broken.pml")).toBe(broken);
    expect(text("packing.pml")).toBe(PROMPT);
  });
});

describe("show", () => {
  test("shows the tree with tokens and positions, and the prompt's cached share", async () => {
    const { pml } = folderOf({});
    const { stdout } = await pml("show", "trip.pml", "packing.pml");
    expect(stdout).toMatch(/^positions {2}tokens\n +0–\d+ +\d+ {2}trip\n/);
    expect(stdout).toMatch(/ 6 .*├ parameter days\n/);
    expect(stdout).toMatch(/miami – left out\n/);
    expect(stdout).toMatch(/today \(computed each time\)\n/);
    expect(stdout).toMatch(/The prompt: \d+ tokens from the cache \(\d+ %\), \d+ computed/);
  });

  test("--json prints the same as data: members of a union share a start, and tokens add up", async () => {
    const { pml } = folderOf({});
    const { prompt, tree, length } = JSON.parse((await pml("show", "trip.pml", "packing.pml", "--json")).stdout);
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

  test("keeps 10,000 modules readable: the outer levels, what the prompt includes, and counts of the rest", async () => {
    const groups = Array.from(
      { length: 100 },
      (_, i) =>
        `<module name="g${i}"><union>${Array.from({ length: 99 }, (_, j) => `<module name="m${j}">Rule ${j}.</module>`).join("")}</union></module>`,
    );
    const { pml } = folderOf({
      "large.pml": `<schema name="large">${groups.join("")}</schema>`,
      "ask.pml": `<prompt schema="large"><g77><m55/></g77>Why?</prompt>`,
    });
    const { stdout } = await pml("show", "large.pml", "ask.pml");
    const lines = stdout.split("\n");
    expect(lines.length).toBeLessThan(100);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(100);
    expect(lines.some((line) => line.endsWith(" m55"))).toBe(true);
    const shown = lines.filter((line) => /[├└] [gm]\d+/.test(line)).length;
    const counted = [...stdout.matchAll(/… (\d+) more module/g)].reduce((sum, [, number]) => sum + Number(number), 0);
    expect(shown + counted).toBe(10_000);
  });

  test("reports errors in the markup and files in the wrong order, and says what to do", async () => {
    const { pml } = folderOf({
      "packing.pml": PROMPT.replace("<tokyo/>", "<toyko/>"),
      "docs.pml": `<prompt schema="trip"><document ref="a"/>Go.</prompt>`,
    });
    const wrong = await pml("show", "trip.pml", "packing.pml");
    expect(wrong.stderr).toMatch(/Fix these errors in the markup first:\npacking\.pml:3:6: error: no module `toyko`/);
    expect(wrong.status).toBe(1);
    expect((await pml("show", "packing.pml", "trip.pml")).stderr).toContain("packing.pml contains a prompt, but a schema is needed");
    expect((await pml("run", "trip.pml", "docs.pml")).stderr).toContain("Documents come from a corpus. Use --corpus DIR");
    expect((await pml("run", "trip.pml", "gone.pml")).stderr).toContain("cannot read `gone.pml`");
  });
});

describe("precompute and run", () => {
  test("precompute fills the store once, and run takes all modules from it", async () => {
    const { pml } = folderOf({});
    expect(JSON.parse((await pml("precompute", "trip.pml", "--store", "kv", "--json")).stdout)).toMatchObject({
      blocks: 4,
      encoded: 4,
      stored: 0,
    });
    expect((await pml("precompute", "trip.pml", "--store", "kv")).stdout).toMatch(/4 blocks of trip\.pml: 0 encoded .* 4 already stored/);
    const shown = JSON.parse((await pml("show", "trip.pml", "packing.pml", "--json")).stdout).prompt.tokens;
    const run = JSON.parse((await pml("run", "trip.pml", "packing.pml", "--store", "kv", "--compare", "--json")).stdout);
    expect(Object.keys(run)).toEqual(["answer", "timing", "tokens", "modules", "scaffolds", "compare"]);
    expect(run.tokens).toMatchObject({ ...shown, encoded: 0 });
    expect(run.timing).toMatchObject({ encode_ms: 0, first_token_ms: expect.any(Number) });
    expect(run.compare.uncached.tokens).toMatchObject({ cached: 0, computed: shown.cached + shown.computed });
    expect(run.compare.natural.tokens.cached).toBe(0);
    for (const { kl } of [run.compare, run.compare.uncached]) expect(kl).toBeGreaterThan(0);
  });

  test("store gc removes the blocks of text that the schemas no longer have, and keeps the others", async () => {
    const { folder, pml } = folderOf({});
    await pml("precompute", "trip.pml", "--store", "kv");
    writeFileSync(join(folder, "trip.pml"), SCHEMA.replace("warm, wet", "hot, wet"));
    expect(JSON.parse((await pml("precompute", "trip.pml", "--store", "kv", "--json")).stdout)).toMatchObject({ stored: 3, encoded: 1 });
    const store = (...args: string[]) => runCommand(storeCommand(), args, folder);
    expect((await store("gc", "--store", "kv")).stderr).toContain("Name the PML schemas whose modules stay");
    const collected = JSON.parse((await store("gc", "--store", "kv", "--schema", "trip.pml", "--json")).stdout);
    expect(collected).toMatchObject({ unreferenced: 1, removed: 1 });
    expect(JSON.parse((await pml("precompute", "trip.pml", "--store", "kv", "--json")).stdout)).toMatchObject({ stored: 4, encoded: 0 });
  });

  test("run stores missing blocks, and streams at most --max-tokens", async () => {
    const { pml } = folderOf({});
    const first = await pml("run", "trip.pml", "packing.pml", "--store", "kv", "--max-tokens", "1");
    expect(first.stdout).toMatch(/First encoded \d+ tokens of modules in \d+ ms \(kept in kv\)/);
    const again = JSON.parse((await pml("run", "trip.pml", "packing.pml", "--store", "kv", "--max-tokens", "1", "--json")).stdout);
    expect(again.tokens).toMatchObject({ generated: 1, encoded: 0 });
    expect((await pml("run", "trip.pml", "packing.pml", "--max-tokens", "0")).stderr).toContain("whole number, 1 or more");
  });

  test("run says if there is no store, and --compare prints the three ways with times and divergence", async () => {
    const { pml } = folderOf({});
    const { stdout } = await pml("run", "trip.pml", "packing.pml", "--max-tokens", "2", "--compare");
    expect(stdout).toContain("--store DIR would keep them");
    expect(stdout).toMatch(
      /first token +KL, nats\ncached +\d+ ms +[\d.]+\nthe same positions, nothing cached +\d+ ms +[\d.]+\nnatural +\d+ ms/,
    );
    expect(stdout).toMatch(/First token after \d+ ms without the cache, after \d+ ms with it: [\d.]+ times faster\./);
  });

  test("Ctrl-C stops precompute with exit code 130, and the next run resumes", async () => {
    const { folder, pml } = folderOf({ "long.pml": longSchema(8) });
    const child = spawn(process.execPath, [BIN, "pml", "precompute", "long.pml", "--store", "kv"], { cwd: folder });
    let stderr = "";
    child.stderr.on("data", (part) => (stderr += part));
    while ((await storedBlocks(folder)) < 2) await new Promise((wake) => setTimeout(wake, 20));
    child.kill("SIGINT");
    expect((await once(child, "exit"))[0]).toBe(130);
    expect(stderr).toContain("Cancelled. What was stored is kept.");
    const before = await storedBlocks(folder);
    expect(JSON.parse((await pml("precompute", "long.pml", "--store", "kv", "--json")).stdout)).toMatchObject({
      blocks: 8,
      stored: before,
      encoded: 8 - before,
    });
  });
});

describe("Ctrl-C stops run with exit code 130", () => {
  const MODULES = 7;
  /** Runs a prompt of long modules until `until` is true, then sends the signal. */
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
  const includes = Array.from({ length: MODULES }, (_, i) => `<m${i}/>`).join("");

  test("while modules are encoded and during a prefill, and what was encoded is kept", async () => {
    const { folder, pml } = folderOf({
      "long.pml": longSchema(MODULES),
      "ask.pml": `<prompt schema="long">${includes}Which number?</prompt>`,
    });
    const encoding = await interrupted(folder, async () => (await storedBlocks(folder)) >= 2);
    expect(encoding).toEqual({ code: 130, stderr: expect.stringContaining("Cancelled. What was stored is kept.") });
    const before = await storedBlocks(folder);
    expect(before).toBeLessThan(MODULES);

    const prefilling = await interrupted(folder, (stdout) => stdout.includes("nothing cached:"), "--compare", "--max-tokens", "1");
    expect(prefilling).toEqual({ code: 130, stderr: expect.stringContaining("Cancelled.") });
    expect(JSON.parse((await pml("precompute", "long.pml", "--store", "kv", "--json")).stdout)).toMatchObject({
      blocks: MODULES,
      stored: MODULES,
      encoded: 0,
    });
  });
});

describe("documents of a corpus", () => {
  const kvsplice = (folder: string, command: string) => {
    const args = command.replaceAll("examples/", `${join(EXAMPLES, "..")}/`).split(" ");
    return spawnSync(process.execPath, [BIN, ...args], { encoding: "utf8", cwd: folder });
  };

  test("the commands in the documentation print what it shows", async () => {
    const files = Object.fromEntries(
      Array.from(PAGE.matchAll(/^```xml ((?:answer|designer)\.pml)\n(.*?)^```$/gms), ([, name = "", text = ""]) => [name, text]),
    );
    const { folder, pml } = folderOf({ ...files, "typo.pml": `<prompt schema="answer"><document ref="forth-brige.md#2"/>Go.</prompt>` });
    const [, shown = ""] = /^```console\n(.*?)^```$/ms.exec(PAGE) ?? [];
    const steps = Array.from(shown.matchAll(/^\$ kvsplice (.*)\n((?:[^$].*\n)*)/gm), ([, command = "", output = ""]) => ({
      command,
      output: output.trim(),
    }));
    expect(steps.map(({ command }) => command.replace(/ -.*/, "").split(" ").slice(0, 2).join(" "))).toEqual([
      expect.stringMatching(/^precompute/),
      "chunks",
      "pml check",
      "pml run",
    ]);
    for (const { command, output } of steps) expect(kvsplice(folder, command).stdout).toContain(output);

    const { tokens } = JSON.parse((await pml("run", "answer.pml", "designer.pml", "--corpus", "bridges.kv", "--json")).stdout);
    expect(tokens).toMatchObject({ encoded: 0, cached: 16 + 7 + 136 + 98 });
    const misspelt = await pml("check", "answer.pml", "typo.pml", "--corpus", "bridges.kv");
    expect(misspelt.stdout).toMatch(/typo\.pml:1:40: error: .*; did you mean `forth-bridge\.md#2`\? \[unknown-document\]/);
    expect(misspelt.status).toBe(1);
  });

  test("refuses a folder that is not a corpus", async () => {
    const { pml } = folderOf({});
    for (const command of ["check", "show", "run"])
      expect((await pml(command, "trip.pml", "packing.pml", "--corpus", "nowhere")).stderr).toContain("There is no corpus in nowhere");
  });
});

describe("audit", () => {
  const SMALL = `<schema name="s"><user open="true">\n<module name="a">The zorb is blue.</module>\n<module name="b">It floats.</module>\n</user></schema>`;
  const files = { "s.pml": SMALL, "p.pml": `<prompt schema="s"><a/><b/>What floats?</prompt>` };

  test("reports what each module adds, and tries fixes for those that suffer", async () => {
    const { pml } = folderOf(files);
    const { stdout, status } = await pml("audit", "s.pml", "p.pml", "--tolerance", "0", "--link", "0.5", "--json");
    const { ways, modules, prompts } = JSON.parse(stdout) as PmlAudit & { prompts: number };
    expect([status, prompts]).toEqual([0, 1]);
    expect(ways.map(({ way }) => way)).toEqual([
      "as it is",
      "nothing cached",
      `<schema context="before">`,
      `<schema context="all">`,
      "--link 0.5",
    ]);
    for (const { divergence, computed } of ways)
      for (const [value, most] of [
        [divergence, 1],
        [computed, 100],
      ] as const)
        expect(value >= 0 && value <= most).toBe(true);
    expect(ways.find(({ way }) => way === "nothing cached")?.computed).toBe(100);
    expect(modules.map(({ module, prompts: of }) => [module, of])).toEqual([
      ["s", 1],
      ["a", 1],
      ["b", 1],
    ]);
    for (const { divergence, suffers, mends } of modules) {
      expect(suffers).toBe(divergence > 0);
      expect(mends.map(({ after }) => after)).toEqual(mends.map(({ after }) => after).toSorted((x, y) => x - y));
    }
    const suffering = modules.find(({ module, suffers }) => module !== "s" && suffers);
    expect(suffering?.mends.map(({ mend }) => mend).toSorted()).toEqual([
      "--link 0.5",
      `<scaffold modules="a b">`,
      `cache="false"`,
      `context="all"`,
      `context="before"`,
    ]);
  });

  test("finds what mends a module of an example, with the divergence before and after", async () => {
    const { pml } = folderOf({});
    const [schema, bakery] = ["schema.pml", "bakery.pml"].map((file) => join(EXAMPLES, "tenants", file)) as [string, string];
    const { modules } = JSON.parse((await pml("audit", schema, bakery, "--link", "0.15", "--json")).stdout) as PmlAudit;
    const hours = modules.find(({ module }) => module === "bakery-hours");
    expect(hours?.suffers).toBe(true);
    const [best] = hours!.mends;
    expect(best!.after).toBeLessThan(best!.before / 4);
  });

  test("prints a table that names modules that suffer, and refuses an invalid tolerance", async () => {
    const { pml } = folderOf(files);
    const { stdout } = await pml("audit", "s.pml", "p.pml", "--tolerance", "1", "--link", "head=1");
    expect(stdout).toMatch(/^prompts +divergence +same first +same answer +computed\nas it is /);
    expect(stdout).toMatch(/\nmodule +in prompts +adds\n/);
    expect(stdout).toContain("No module adds more than 1.");
    expect((await pml("audit", "s.pml", "p.pml", "--tolerance", "much")).stderr).toContain("Give a number of nats from 0 to 1.");
    expect((await pml("audit", "s.pml", "s.pml")).stderr).toContain("s.pml contains a schema, but a prompt is needed");
  });
});

test("run recomputes the share of the modules' tokens that --link sets", async () => {
  const { pml } = folderOf({});
  const run = async (...options: string[]) =>
    JSON.parse((await pml("run", "trip.pml", "packing.pml", "--max-tokens", "1", "--json", ...options)).stdout);
  const [plain, linked] = [await run(), await run("--link", "0.5")];
  const loose = plain.tokens.cached - (await pml("show", "trip.pml", "--json").then(({ stdout }) => JSON.parse(stdout).tree.tokens));
  expect(linked).toMatchObject({
    link: "0.5",
    tokens: { recomputed: Math.floor(loose / 2), cached: plain.tokens.cached - Math.floor(loose / 2) },
  });
  expect((await pml("run", "trip.pml", "packing.pml", "--link", "sideways")).stderr).toContain("is not a way of linking");
});

describe("the examples", () => {
  const PROMPTS = [
    ["shots", "holiday", "Positive"],
    ["support", "orange-ring", "no connection"],
    ["support", "reset", "ten seconds"],
    ["review", "query", "as parameters"],
    ["review", "timeout", "ten seconds"],
    ["classify", "review", "negative"],
    ["classify", "ticket", "billing"],
  ] as const;

  test.for(["support", "review", "classify", "contract", "tools", "tenants", "migration", "shots"])(
    "%s is correct, formatted, and fully used",
    async (name) => {
      const { pml } = folderOf({});
      const files = readdirSync(join(EXAMPLES, name))
        .filter((file) => file.endsWith(".pml"))
        .map((file) => join(EXAMPLES, name, file));
      expect(await pml("check", ...files, "--usage")).toEqual({
        status: 0,
        stdout: `${files.length} files: 0 errors, 0 warnings.\n`,
        stderr: "",
      });
      expect((await pml("format", ...files, "--check")).stdout).toBe("");
    },
  );

  test.for(PROMPTS)("%s/%s answers from its modules: %s", async ([name, prompt, answer]) => {
    const { pml } = folderOf({});
    const run = JSON.parse((await pml("run", join(EXAMPLES, name, "schema.pml"), join(EXAMPLES, name, `${prompt}.pml`), "--json")).stdout);
    expect(run.answer).toContain(answer);
    expect(run.tokens.cached).toBeGreaterThan(5 * run.tokens.computed);
  });

  test("the cases of those that have some pass", async () => {
    const { pml } = folderOf({});
    const files = ["contract", "migration", "tenants", "tools"].map((name) => join(EXAMPLES, name, "cases.json"));
    expect(JSON.parse((await pml("test", ...files, "--json")).stdout)).toMatchObject({ cases: 9, failed: 0 });
  });
});

describe("import and export", () => {
  test("import prints PML of both formats, or writes it, and says what is left to decide", async () => {
    const { pml, text } = folderOf({
      "old.xml": `<schema name="old"><module name="m">if a < b && c</module></schema>`,
      "ask.jinja": "system:\nBe {{ tone }}.\nuser:\n{{ question }}",
    });
    expect(await pml("import", "old.xml", "--out", "old.pml")).toMatchObject({ status: 0, stdout: "", stderr: "" });
    expect((await pml("check", "old.pml")).stdout).toContain("0 errors, 0 warnings");
    expect(text("old.pml")).toContain('context="all"');
    const { stdout, stderr } = await pml("import", "ask.jinja", "--from", "jinja");
    expect(stdout).toContain('<system>Be <parameter name="tone" length="64"/>.</system>');
    expect(stderr).toContain("ask.jinja: the parameter `tone` reserves 64 tokens");
    expect(pml.reading("Hi {{ name }}")("import", "-", "--from", "jinja").stdout).toContain('<schema name="stdin">');
  });

  test("export prints the messages of either API", async () => {
    const { pml } = folderOf({ "values.json": JSON.stringify({ plan: { days: "four days" } }) });
    const of = async (api: string) =>
      JSON.parse((await pml("export", "trip.pml", "packing.pml", "--to", api, "--data", "values.json")).stdout);
    const { messages } = await of("openai");
    const system = "You answer questions from the given documents.";
    expect(messages[0]).toEqual({ role: "system", content: system });
    // What is stable comes first.
    const said = "Tokyo never sleeps.\nThe traveller stays for four days.\nIt rains today.\nWhat is the weather like today?";
    expect(messages[1]).toEqual({ role: "user", content: said });
    expect(await of("anthropic")).toMatchObject({ system: [{ type: "text", text: system }], messages: [{ role: "user" }] });
    expect((await pml("export", "trip.pml", "packing.pml", "--to", "nobody")).stderr).toContain("Allowed choices are openai, anthropic");
  });
});

describe("test", () => {
  test("cases pass or fail by their expectations, as does the exit code", async () => {
    const cases = (expect: object, data = {}) =>
      JSON.stringify({ schema: "trip.pml", cases: [{ prompt: "packing.pml", data, max_tokens: 4, expect }] });
    const { pml } = folderOf({
      "right.json": cases({ contains: "" }),
      "wrong.json": cases({ equals: "no model says this", json: { type: "object" } }),
      "typo.json": cases({}, { plan: { dais: "3", days: { not: "text" } } }),
      "broken.json": `{"schema": 1}`,
    });
    const { status, stdout } = await pml("test", "right.json", "wrong.json", "typo.json", "--json");
    const { cases: count, failed, results } = JSON.parse(stdout);
    expect([status, count, failed]).toEqual([1, 3, 2]);
    expect(results[0].failures).toEqual([]);
    expect(results[1].failures).toEqual([`is not "no model says this"`, "is not JSON"]);
    expect(results[2].failures[0]).toMatch(
      /`plan\/days` is .*it takes text or a number[\s\S]*no parameter `dais` in `plan`; did you mean `days`\?/,
    );
    expect((await pml("test", "broken.json")).stderr).toMatch(/broken\.json is not a file of test cases/);
    expect(pml.reading(cases({ contains: "" }))("test", "-").stdout).toContain("1 case, 0 failed.");
  });
});

test("a budget leaves out modules with a priority, and says so", async () => {
  const { pml } = folderOf({ "trip.pml": SCHEMA.replace('<module name="today"', '<module name="today" priority="1"') });
  const whole = JSON.parse((await pml("render", "trip.pml", "packing.pml", "--json")).stdout).tokens;
  const { stdout, stderr } = await pml(
    "render",
    "trip.pml",
    "packing.pml",
    "--budget",
    String(whole.cached + whole.computed - 1),
    "--json",
  );
  expect(stderr).toMatch(/packing\.pml:5:4: warning: module `today` is left out.*\[module-left-out\]/);
  expect(JSON.parse(stdout).text).not.toContain("rains");
});

test("a prompt is filled with given values", async () => {
  const { pml } = folderOf({ "values.json": JSON.stringify({ plan: { days: "four <days>", tokyo: false, miami: true }, today: false }) });
  const { text } = JSON.parse((await pml("render", "trip.pml", "packing.pml", "--data", "values.json", "--json")).stdout);
  expect(text).toContain("The traveller stays for four <days>.\nMiami is warm, wet and loud.\nWhat is the weather");
  expect((await pml("render", "trip.pml", "packing.pml", "--data", "gone.json")).stderr).toContain(
    "The values in gone.json cannot be read",
  );
});

test("--help of every command shows examples", async () => {
  const { pml } = folderOf({});
  for (const command of ["check", "format", "show", "render", "precompute", "run", "test", "audit", "import", "export", "lsp"])
    expect((await pml(command, "--help")).stdout).toMatch(/Examples:\n {2}\$ kvsplice pml/);
});

/** Modules `m0`, `m1`, ... of about a hundred tokens each. */
function longSchema(count: number): string {
  const modules = Array.from(
    { length: count },
    (_, i) => `<module name="m${i}">${`Sentence ${i} says something of the number ${i * 7}. `.repeat(8)}</module>`,
  );
  return `<schema name="long">${modules.join("")}</schema>`;
}

async function storedBlocks(folder: string): Promise<number> {
  return (await storedKeys(join(folder, "kv"))).length;
}
