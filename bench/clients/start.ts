/**
 * Tests kvsplice's server with widely used clients, feature by feature, and prints the table of docs/clients.md.
 *
 *     npm --prefix bench/clients ci && npm --prefix bench/clients start -- /path/to/qwen2.5-coder-0.5b-instruct.gguf
 *
 * `--only FEATURE` tests only one. The model in the argument is for the feature that needs understanding: when to call a tool.
 * Everything else uses the included model.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { aiSdk, aiSdkResponses } from "./ai-sdk.js";
import { type Asking, type Client, FEATURES } from "./client.js";
import { continueAdapters } from "./continue.js";
import { huggingface } from "./huggingface.js";
import { langchain } from "./langchain.js";
import { llamaIndex } from "./llamaindex.js";
import { openai } from "./openai.js";
import { startServer } from "./server.js";

const CLIENTS: readonly Client[] = [openai, langchain, aiSdk, aiSdkResponses, llamaIndex, huggingface, continueAdapters];

const {
  values: { only },
  positionals: [modelFile],
} = parseArgs({ allowPositionals: true, options: { only: { type: "string" } } });
if (modelFile === undefined) throw new Error("Name the file of a model that can call tools, such as qwen2.5-coder-0.5b-instruct.gguf.");
const { url, model, corpusModel, named, stop } = await startServer(modelFile);
const asking: Asking = { baseURL: `${url}/v1`, model, corpusModel, toolModel: named! };

const rows: string[] = [];
const wrong: string[] = [];
for (const { name, packages, run } of CLIENTS) {
  const cells: string[] = [];
  for (const feature of FEATURES) {
    const attempt = run[feature];
    if (!attempt || (only !== undefined && feature !== only)) {
      cells.push("-");
      continue;
    }
    try {
      await attempt(asking);
      cells.push("yes");
    } catch (error) {
      cells.push("no");
      wrong.push(`${name}, ${feature}: ${(error as Error).message.slice(0, 400)}`);
    }
    process.stderr.write(`${name}, ${feature}: ${cells.at(-1)}\n`);
  }
  const versions = packages.map((each) => `${each} ${versionOf(each)}`).join(", ");
  rows.push(`| ${name} (${versions}) | ${cells.join(" | ")} |`);
}
console.log(`Node ${process.versions.node}; tools by ${basename(modelFile)}\n`);
console.log(`| | ${FEATURES.join(" | ")} |\n|---|${FEATURES.map(() => "---|").join("")}`);
console.log(rows.join("\n"));
for (const each of wrong) console.log(`\n${each}`);

await stop();
process.exit(wrong.length > 0 ? 1 : 0);

function versionOf(name: string): string {
  return (JSON.parse(readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url), "utf8")) as { version: string }).version;
}
