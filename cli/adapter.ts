import { Command } from "commander";
import { pullAdapter, readAdapter } from "../engine/index.js";
import { withInterrupt } from "./interrupt.js";
import { fetchNamed } from "./model.js";
import { sizeText } from "./progress.js";

export function adapterCommand(): Command {
  const info = new Command("info")
    .description("show what an adapter changes and which passes it acts on")
    .argument("<name>", "a PEFT folder, a .safetensors or .gguf file, hf:OWNER/NAME, or a URL")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      "\nExamples:\n  $ kvsplice adapter info models/adapters/qwen2.5-coder-1.5b-instruct\n  $ kvsplice adapter info hf:OWNER/NAME",
    )
    .action(tell);
  return new Command("adapter").description("inspect low-rank adapters (docs/linking.md)").addCommand(info);
}

async function tell(name: string, { json }: { readonly json?: boolean }): Promise<void> {
  const path = await withInterrupt((signal) => fetchNamed(name, pullAdapter, { signal, json }));
  const { id, where, scale, pairs } = await readAdapter(path);
  const names = [...pairs.keys()];
  const modules = [...new Set(names.map((name) => name.split(".")[2]!))].sort();
  const layers = new Set(names.map((name) => name.split(".")[1]!)).size;
  const ranks = [...new Set([...pairs.values()].map(({ rank }) => rank))].sort((a, b) => a - b);
  const bytes = [...pairs.values()].reduce((sum, { a, b }) => sum + a.byteLength + b.byteLength, 0);
  if (json) process.stdout.write(`${JSON.stringify({ id, where, scale, ranks, modules, layers, memory_bytes: bytes })}\n`);
  else {
    const acts = where === "encode" ? "while documents are encoded; the answering model is unchanged" : "on every pass";
    process.stdout.write(
      `Acts ${acts}.\nRank ${ranks.join(", ")}, scale ${scale}, on ${modules.join(", ")} of ${layers} ${layers === 1 ? "layer" : "layers"}; ${sizeText(bytes)} in memory.\n`,
    );
  }
}
