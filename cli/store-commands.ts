import { Command } from "commander";
import { storeExportCommand } from "./store-export.js";
import { storeImportCommand } from "./store-import.js";

export function storeCommand(): Command {
  return new Command("store")
    .description("care for what is stored: the way to another machine")
    .addCommand(storeExportCommand())
    .addCommand(storeImportCommand())
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice store export handbook.safetensors --store handbook.kv
  $ kvsplice store import handbook.safetensors --store handbook.kv`,
    );
}
