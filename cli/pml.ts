import { Command } from "commander";
import { pmlAuditCommand } from "./pml-audit.js";
import { pmlCheckCommand } from "./pml-check.js";
import { pmlExportCommand } from "./pml-export.js";
import { pmlFormatCommand } from "./pml-format.js";
import { pmlImportCommand } from "./pml-import.js";
import { pmlLspCommand } from "./pml-lsp.js";
import { pmlPrecomputeCommand } from "./pml-precompute.js";
import { pmlRenderCommand } from "./pml-render.js";
import { pmlRunCommand } from "./pml-run.js";
import { pmlShowCommand } from "./pml-show.js";
import { pmlTestCommand } from "./pml-test.js";

export function pmlCommand(): Command {
  return new Command("pml")
    .description("prompts built from modules whose KV states are computed once (language: docs/pml.md)")
    .addCommand(pmlCheckCommand())
    .addCommand(pmlFormatCommand())
    .addCommand(pmlShowCommand())
    .addCommand(pmlRenderCommand())
    .addCommand(pmlPrecomputeCommand())
    .addCommand(pmlRunCommand())
    .addCommand(pmlTestCommand())
    .addCommand(pmlAuditCommand())
    .addCommand(pmlImportCommand())
    .addCommand(pmlExportCommand())
    .addCommand(pmlLspCommand())
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice pml check trip.pml packing.pml
  $ kvsplice pml precompute trip.pml --store trip.kv
  $ kvsplice pml run trip.pml packing.pml --store trip.kv --compare`,
    );
}
