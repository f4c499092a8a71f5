import { Command } from "commander";
import { storeExportCommand } from "./store-export.js";
import { storeGcCommand } from "./store-gc.js";
import { storeImportCommand } from "./store-import.js";
import { storeStatsCommand } from "./store-stats.js";
import { storeVerifyCommand } from "./store-verify.js";

export function storeCommand(): Command {
  return new Command("store")
    .description("maintain a store: statistics, verification, garbage collection, export and import")
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
