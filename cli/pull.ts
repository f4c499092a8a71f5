import { Command } from "commander";
import { withInterrupt } from "./interrupt.js";
import { fetchModel } from "./model.js";

export function pullCommand(): Command {
  return new Command("pull")
    .description("fetch a model, and print where it lies")
    .argument("<model>", "hf:OWNER/NAME:QUANTISATION, or an address")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Models are kept in Hugging Face's own cache, ~/.cache/huggingface/hub unless HF_HUB_CACHE or HF_HOME says otherwise;
what is there, or in LM Studio's or Ollama's folders, is not fetched again. A fetch that was ended goes on where it was,
and each file is checked by its hash. HF_TOKEN is for models that ask for one, HF_ENDPOINT for a mirror, HTTPS_PROXY for
a proxy; with HF_HUB_OFFLINE=1 nothing is fetched.

Examples:
  $ kvsplice pull hf:Qwen/Qwen3-1.7B-GGUF:Q4_K_M
  $ kvsplice pull hf:Qwen/Qwen3-0.6B
  $ kvsplice pull https://huggingface.co/Qwen/Qwen3-1.7B-GGUF/blob/main/Qwen3-1.7B-Q8_0.gguf`,
    )
    .action(run);
}

async function run(name: string, { json }: { readonly json?: boolean }): Promise<void> {
  const path = await withInterrupt((signal) => fetchModel({ source: { name } }, { signal, json }));
  process.stdout.write(json ? `${JSON.stringify({ model: name, path })}\n` : `${path}\n`);
}
