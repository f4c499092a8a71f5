#!/usr/bin/env node
import { createRequire } from "node:module";
import { Command } from "commander";
import { adapterCommand } from "./adapter.js";
import { askCommand } from "./ask.js";
import { auditCommand } from "./audit.js";
import { chunksCommand } from "./chunks.js";
import { evalCommand } from "./eval.js";
import { listCommand } from "./list.js";
import { modelsCommand } from "./models.js";
import { pmlCommand } from "./pml.js";
import { precomputeCommand } from "./precompute.js";
import { pullCommand } from "./pull.js";
import { removeCommand } from "./remove.js";
import { reportError } from "./report-error.js";
import { serveCommand } from "./serve.js";
import { storeCommand } from "./store-commands.js";
import { workerCommand } from "./worker.js";

const { version, description } = createRequire(import.meta.url)("kvsplice/package.json") as { version: string; description: string };

const program = new Command("kvsplice")
  .description(description)
  .version(version)
  .showHelpAfterError("(kvsplice --help tells the commands)")
  .addCommand(precomputeCommand())
  .addCommand(askCommand())
  .addCommand(auditCommand())
  .addCommand(listCommand())
  .addCommand(removeCommand())
  .addCommand(chunksCommand())
  .addCommand(evalCommand())
  .addCommand(pmlCommand())
  .addCommand(workerCommand())
  .addCommand(storeCommand())
  .addCommand(serveCommand())
  .addCommand(modelsCommand())
  .addCommand(pullCommand())
  .addCommand(adapterCommand());

/** Exit code of a command whose reader has left (`| head`), as shells have it: 128 + SIGPIPE. */
const READER_LEFT = 141;

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(READER_LEFT);
  throw error;
});

await program.parseAsync().catch(reportError);
