import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { pmlCommand } from "../../cli/pml.js";
import { runCommand } from "../support/cli/in-process.js";

const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const FILES = {
  "trip.pml": `<schema name="trip" context="before">
  <system>Be brief.</system>
  <user open="true">
    <module name="plan">For <parameter name="days" length="6"/>.</module>
    <union><module name="miami">Warm.</module><module name="tokyo">Large.</module></union>
  </user>
</schema>
`,
  "packing.pml": `<prompt schema="trip"><plan days="two days"/><miami/>What should I pack?</prompt>\n`,
  "other.pml": `<prompt schema="trip"><plan days="two days"/><tokyo/>What should I pack?</prompt>\n`,
};

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kvsplice-render-"));
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(folder, name), text);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const render = (...args: string[]) => runCommand(pmlCommand(), ["render", ...args], folder);
/** In its own process, with this as standard input, in colour. */
const reading = (input: string, ...args: string[]) =>
  spawnSync(process.execPath, [BIN, "pml", "render", ...args], {
    cwd: folder,
    input,
    encoding: "utf8",
    env: { ...process.env, FORCE_COLOR: "1", NO_COLOR: "" },
  }).stdout;

test("draws each text at its position with its origin, role and what its block saw, and the gaps between", async () => {
  const { stdout } = await render("trip.pml", "packing.pml");
  const rows = stdout.split("\n").map((row) => row.replace(/ +/g, " ").trim());
  expect(rows).toEqual([
    "0 cached trip <system> │ <|im_start|>system↵",
    "3 cached trip │ Be brief.",
    "6 cached trip <system> │ <|im_end|>↵",
    "8 cached trip <user> │ <|im_start|>user↵",
    "11 cached after 11 plan │ For",
    "12 new plan/days │ two days",
    "14 gap │ (4 unused positions)",
    "18 cached after 11 plan │ .↵",
    "20 cached after 11 miami │ Warm.↵",
    "24 new prompt │ What should I pack?",
    "29 new prompt <user> │ <|im_end|>↵",
    "31 new prompt <assistant> │ <|im_start|>assistant↵",
    "",
    "18 tokens from the cache, 13 computed; the prompt ends at position 35.",
    "",
  ]);
});

test("shows what is cached in another colour than what is computed", () => {
  const drawn = reading("", "trip.pml", "packing.pml");
  expect(drawn).toContain("\x1b[32mWarm.↵\x1b[39m");
  expect(drawn).toContain("\x1b[33mWhat should I pack?\x1b[39m");
});

test("--json has the parts, the text and the counts", async () => {
  const { parts, text, tokens } = JSON.parse((await render("trip.pml", "packing.pml", "--json")).stdout);
  expect(parts.flatMap((part: { text?: string }) => part.text ?? []).join("")).toBe(text);
  expect(parts).toContainEqual({ kind: "gap", start: 14, end: 18 });
  expect(tokens).toEqual({ cached: 18, computed: 13, end: 35 });
});

test("--diff compares with another prompt, or with another version of the schema", async () => {
  const { stdout } = await render("trip.pml", "packing.pml", "--diff", "other.pml");
  expect(stdout.split("\n").filter((line) => /^[+-]/.test(line))).toEqual(["- Warm.", "+ Large."]);
  expect(stdout).toContain("\nIdentical blocks: 2; others: 1.\n");

  writeFileSync(join(folder, "changed.pml"), FILES["trip.pml"].replace("brief", "kind"));
  const { changes, blocks } = JSON.parse((await render("trip.pml", "packing.pml", "--diff", "changed.pml", "--json")).stdout);
  expect(changes.map(({ change }: { change: string }) => change)).toEqual(["same", "removed", "added", "same"]);
  expect(blocks).toEqual({ shared: 0, other: 3 }); // all of them saw the system message
});

test("any of the files may be standard input", () => {
  const plain = reading("", "trip.pml", "packing.pml", "--diff", "other.pml");
  expect(plain).toContain("Identical blocks");
  expect(reading(FILES["other.pml"], "trip.pml", "packing.pml", "--diff", "-")).toBe(plain);
  expect(reading(FILES["trip.pml"], "-", "packing.pml", "--diff", "other.pml")).toBe(plain);
  expect(reading(FILES["packing.pml"], "trip.pml", "-", "--diff", "other.pml")).toBe(plain);
});
