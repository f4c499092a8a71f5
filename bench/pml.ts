/**
 * Time to read, check and lay out a schema of 10,000 modules, the tokenizer's time left out.
 *
 *     npx tsx bench/pml.ts
 */
import { layoutSchema, readSchema } from "../pml/index.js";
import { withReading } from "../test/fake-reading.js";
import { mapFiles } from "../test/pml/compiling.js";
import { largeSchema } from "../test/pml/large.js";
import { chat } from "../test/pml/words.js";

const RUNS = 9;

/** Costs nothing: what is left is the language's own time. */
const tokenizer = withReading({ encode: (text) => (text === "" ? [] : [1]), decode: () => "" });
const files = mapFiles({ "large.pml": largeSchema() });

const times_ms = Array.from({ length: RUNS }, () => {
  const start = performance.now();
  const { schema } = readSchema("large.pml", { files });
  if (!schema) throw new Error("The schema does not parse.");
  layoutSchema(schema, { tokenizer, chat });
  return performance.now() - start;
}).sort((a, b) => a - b);
console.log(`10,000 modules: median ${times_ms[RUNS >> 1]!.toFixed(0)} ms of ${RUNS} runs (${times_ms[0]!.toFixed(0)} to ${times_ms.at(-1)!.toFixed(0)})`);
