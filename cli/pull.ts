import { Command } from "commander";
import { withInterrupt } from "./interrupt.js";
import { fetchModel } from "./model.js";

export function pullCommand(): Command {
  return new Command("pull")
    .description("download a model and print its path")
    .argument("<model>", "hf:OWNER/NAME:QUANTISATION, or a URL")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Models are stored in the Hugging Face cache: ~/.cache/huggingface/hub, unless HF_HUB_CACHE or HF_HOME is set. Models
that are already there, or in the folders of LM Studio or Ollama, are not downloaded again. An interrupted download
resumes where it stopped, and each file's hash is checked. HF_TOKEN is sent for models that require it, HF_ENDPOINT
sets a mirror, and HTTPS_PROXY a proxy. With HF_HUB_OFFLINE=1, nothing is downloaded.

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
