/**
 * Speed of the bundled sentence encoder over passages of about 130 tokens, by the number of threads, each with passages of its
 * own: `npx tsx bench/embedding.ts [--passages 60]`.
 */
import { parseArgs } from "node:util";
import { loadEmbedder } from "../rag/index.js";
import { usableCores } from "../runtime/index.js";
import { corpusWords } from "./compare/workloads.js";

const { values } = parseArgs({ options: { passages: { type: "string", default: "60" } } });
const words = corpusWords();
const texts = Array.from({ length: Number(values.passages) }, (_, i) =>
  Array.from({ length: 105 }, (_, word) => words[(i * 97 + word) % words.length]).join(" "),
);

console.log("| threads | passages a second | processor, ms a passage |\n|---|---|---|");
for (let threads = 1; threads <= Math.min(usableCores(), 12); threads *= 2) {
  const embedder = await loadEmbedder({ threads });
  await embedder.embed(texts); // its threads are open
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  await embedder.embed(texts);
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - start) / 1000;
  console.log(`| ${threads} | ${(texts.length / seconds).toFixed(1)} | ${((user + system) / 1000 / texts.length).toFixed(1)} |`);
  await embedder.close();
}
