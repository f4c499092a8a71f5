/**
 * Time to read, check and lay out a schema of 10,000 modules, without the tokenizer's time.
 *
 *     npx tsx bench/pml.ts
 */
import { layoutSchema, readSchema } from "../pml/index.js";
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
