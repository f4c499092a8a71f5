import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Command, Option } from "commander";
import { afterAll, describe, expect, test } from "vitest";

import { completionCommand, completionScript } from "../../cli/completion.js";
import { runCommand } from "../support/cli/in-process.js";

/** Commands with texts that are hard to quote. */
const program = new Command("kvsplice")
  .addCommand(
    new Command("ask")
      .description('what\'s asked: "this" & that')
      .option("--store <dir>", "a folder")
      .addOption(new Option("--bits <n>", "how many").choices(["q4", "q8"])),
  )
  .addCommand(
    new Command("pml").description("markup").addCommand(new Command("check").description("look it over").option("--strict", "all of it")),
  );

const home = mkdtempSync(join(tmpdir(), "kvsplice-completion-"));
writeFileSync(join(home, "handbook.md"), "");
afterAll(() => rmSync(home, { recursive: true }));

const has = (shell: string) => spawnSync(shell, ["-c", "true"]).status === 0;
const run = (shell: string, ...args: string[]) => {
  const { stdout, stderr } = spawnSync(shell, args, { encoding: "utf8", cwd: home, env: { ...process.env, HOME: home, TERM: "dumb" } });
  expect(stderr).toBe("");
  return stdout.trim().split("\n").filter(Boolean);
};

describe.skipIf(!has("bash"))("bash", () => {
  const complete = (...words: string[]) =>
    run(
      "bash",
      "-c",
      `${completionScript("bash", program)}\nCOMP_WORDS=(kvsplice "$@"); COMP_CWORD=$#; _kvsplice; printf '%s\\n' "\${COMPREPLY[@]}"`,
      "bash",
      ...words,
    );

  test("completes commands, subcommands, options, and their choices", () => {
    expect(complete("")).toEqual(["ask", "pml", "--help"]);
    expect(complete("a")).toEqual(["ask"]);
    expect(complete("ask", "who?", "--")).toEqual(["--store", "--bits", "--help"]);
    expect(complete("ask", "--bits", "")).toEqual(["q4", "q8"]);
    expect(complete("pml", "")).toEqual(["check", "--help"]);
    expect(complete("pml", "check", "--s")).toEqual(["--strict"]);
    expect(complete("ask", "hand")).toEqual([]); // then bash completes files
  });
});

describe.skipIf(!has("fish"))("fish", () => {
  const complete = (line: string) =>
    run("fish", "--no-config", "-c", `${completionScript("fish", program)}\ncomplete --do-complete '${line}'`);

  test("completes commands, subcommands, options, their choices, and files elsewhere", () => {
    expect(complete("kvsplice ")).toEqual(['ask\twhat\'s asked: "this" & that', "pml\tmarkup"]);
    expect(complete("kvsplice ask who --b")).toEqual(["--bits\thow many"]);
    expect(complete("kvsplice ask --bits ")).toEqual(["q4\thow many", "q8\thow many"]);
    expect(complete("kvsplice pml check --s")).toEqual(["--strict\tall of it"]);
    expect(complete("kvsplice ask hand")).toEqual(["handbook.md"]);
  });
});

describe.skipIf(!has("zsh"))("zsh", () => {
  test("zsh can read the script, which offers a command's words", () => {
    const script = completionScript("zsh", program);
    // Prints the arguments of zsh's functions, which only work on a terminal.
    const offers = `_describe() { print -l -- "\${(@)offers}" }; _files() { }; compadd() { print -l -- "\${@:2}" }; compdef() { }`;
    const complete = (...words: string[]) =>
      run("zsh", "-f", "-c", `${offers}\n${script}\nwords=(kvsplice "$@"); CURRENT=$#words; _kvsplice`, "zsh", ...words);
    expect(complete("")).toEqual(['ask:what\'s asked: "this" & that', "pml:markup", "--help:display help for command"]);
    expect(complete("ask", "--bits", "")).toEqual(["q4", "q8"]);
    expect(complete("pml", "check", "")).toEqual(["--strict:all of it", "--help:display help for command"]);
  });
});

test("the command prints the script for a shell, and lists the shells it knows", async () => {
  const command = () => completionCommand(async () => program);
  expect((await runCommand(command(), ["bash"], home)).stdout).toBe(completionScript("bash", program));
  const { status, stderr } = await runCommand(command(), ["tcsh"], home);
  expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringContaining("bash, zsh, fish") });
});
