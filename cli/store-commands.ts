import { Command } from "commander";
import { storeExportCommand } from "./store-export.js";
import { storeGcCommand } from "./store-gc.js";
import { storeImportCommand } from "./store-import.js";
import { storeStatsCommand } from "./store-stats.js";
import { storeVerifyCommand } from "./store-verify.js";

export function storeCommand(): Command {
  return new Command("store")
    .description("care for what is stored: figures, checksums, room, and the way to another machine")
    .addCommand(storeStatsCommand())
    .addCommand(storeVerifyCommand())
    .addCommand(storeGcCommand())
    .addCommand(storeExportCommand())
    .addCommand(storeImportCommand())
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice store stats --store handbook.kv
  $ kvsplice store verify --store handbook.kv --repair
  $ kvsplice store export handbook.safetensors --store handbook.kv`,
    );
}
