#!/usr/bin/env node
import { createRequire } from "node:module";
import { Command } from "commander";
import { COMMANDS } from "./commands.js";
import { reportError } from "./report-error.js";

const { version, description } = createRequire(import.meta.url)("kvsplice/package.json") as { version: string; description: string };

const program = new Command("kvsplice")
  .description(description)
  .version(version)
  .showHelpAfterError("(kvsplice --help lists the commands)");

const asked = process.argv.slice(2).find((argument) => !argument.startsWith("-"));
const isVersion = asked === undefined && process.argv.some((argument) => argument === "--version" || argument === "-V");
const named = asked !== undefined && Object.hasOwn(COMMANDS, asked) ? [COMMANDS[asked]!] : isVersion ? [] : Object.values(COMMANDS);
for (const load of named) program.addCommand(await load());

/** Exit code when the reader has closed the pipe (`| head`), as shells set it: 128 + SIGPIPE. */
const READER_LEFT = 141;

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(READER_LEFT);
  throw error;
});

await program.parseAsync().catch(reportError);
