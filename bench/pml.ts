/**
 * What large markup costs: a schema of 10,000 modules to read, check and lay out, without the tokenizer's time; schemas far beyond
 * the model's context until they are refused, with the process's peak memory; and a module with a long parameter to encode.
 *
 *     npx tsx bench/pml.ts
 */
import { loadModel } from "../engine/index.js";
import { blocksOf, compileMarkup, layoutSchema, openMarkup, readSchema } from "../pml/index.js";
import { withReading } from "../test/support/fake-reading.js";
import { mapFiles } from "../test/support/pml/compiling.js";
import { largeSchema } from "../test/support/pml/large.js";
import { chat } from "../test/support/pml/words.js";

const RUNS = 9;

/** Costs nothing, so that only the language's own time remains. */
const tokenizer = withReading({ encode: (text) => (text === "" ? [] : [1]), decode: () => "" });
const files = mapFiles({ "large.pml": largeSchema() });

const times_ms = Array.from({ length: RUNS }, () => {
  const start = performance.now();
  const { schema } = readSchema("large.pml", { files });
  if (!schema) throw new Error("The schema does not parse.");
  layoutSchema(schema, { tokenizer, chat });
  return performance.now() - start;
}).sort((a, b) => a - b);
console.log(
  `10,000 modules: median ${times_ms[RUNS >> 1]!.toFixed(0)} ms of ${RUNS} runs (${times_ms[0]!.toFixed(0)} to ${times_ms.at(-1)!.toFixed(0)})`,
);

const model = await loadModel();
const language = { tokenizer: model.tokenizer, chat: model.chat, contextLength: model.contextLength, linkTokens: [] };
const compiled = (markup: string) => compileMarkup([openMarkup(markup, { file: "schema", files })], { language });

const hundredThousand = Array.from({ length: 100_000 }, (_, i) => `<module name="m${i}">Module ${i} says hello to all.</module>`);
for (const [name, text] of [
  ["100,000 modules", hundredThousand.join("\n")],
  ["8 MiB of one letter", `<module name="m">${"a".repeat(8 * 2 ** 20)}</module>`],
] as const) {
  const before_bytes = process.resourceUsage().maxRSS * 1024;
  const start = performance.now();
  const { diagnostics } = compiled(`<schema name="s">${text}</schema>`);
  const ms = performance.now() - start;
  const more_bytes = process.resourceUsage().maxRSS * 1024 - before_bytes;
  const codes = diagnostics.map(({ code }) => code).join(", ");
  console.log(`${name}: ${codes} after ${ms.toFixed(0)} ms, ${(more_bytes / 2 ** 20).toFixed(0)} MiB more at the peak`);
}

for (const length of [16, 64, 4096]) {
  const { layout } = compiled(
    `<schema name="s"><module name="m">Said: <parameter name="text" length="${length}"/>. That was all.</module></schema>`,
  ).files[0]!;
  const start = process.cpuUsage();
  for (const block of blocksOf(layout!)) await model.encode(block);
  const { user, system } = process.cpuUsage(start);
  console.log(`a parameter of ${length} positions: ${((user + system) / 1e6).toFixed(2)} CPU s to encode its module`);
}
await model.close();
