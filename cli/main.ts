#!/usr/bin/env node
import { createRequire } from "node:module";
import { Command } from "commander";
import { reportError } from "./report-error.js";

const { version, description } = createRequire(import.meta.url)("kvsplice/package.json") as { version: string; description: string };

/** The commands, each loaded when it is asked for: what the others import takes a second. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  precompute: async () => (await import("./precompute.js")).precomputeCommand(),
  ask: async () => (await import("./ask.js")).askCommand(),
  audit: async () => (await import("./audit.js")).auditCommand(),
  list: async () => (await import("./list.js")).listCommand(),
  remove: async () => (await import("./remove.js")).removeCommand(),
  chunks: async () => (await import("./chunks.js")).chunksCommand(),
  eval: async () => (await import("./eval.js")).evalCommand(),
  pml: async () => (await import("./pml.js")).pmlCommand(),
  worker: async () => (await import("./worker.js")).workerCommand(),
  store: async () => (await import("./store-commands.js")).storeCommand(),
  serve: async () => (await import("./serve.js")).serveCommand(),
  models: async () => (await import("./models.js")).modelsCommand(),
  pull: async () => (await import("./pull.js")).pullCommand(),
  adapter: async () => (await import("./adapter.js")).adapterCommand(),
};

const program = new Command("kvsplice")
  .description(description)
  .version(version)
  .showHelpAfterError("(kvsplice --help tells the commands)");

const asked = process.argv.slice(2).find((argument) => !argument.startsWith("-"));
const isVersion = asked === undefined && process.argv.some((argument) => argument === "--version" || argument === "-V");
const named = asked !== undefined && Object.hasOwn(COMMANDS, asked) ? [COMMANDS[asked]!] : isVersion ? [] : Object.values(COMMANDS);
for (const load of named) program.addCommand(await load());

/** Exit code of a command whose reader has left (`| head`), as shells have it: 128 + SIGPIPE. */
const READER_LEFT = 141;

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(READER_LEFT);
  throw error;
});

await program.parseAsync().catch(reportError);
