import { expect, test } from "vitest";
import { schema as build, checkUsage, compilePrompt, describe, layoutSchema, parsePrompt, readSchema } from "../../pml/index.js";
import { withReading } from "../support/fake-reading.js";
import { mapFiles } from "../support/pml/compiling.js";
import { largeSchema } from "../support/pml/large.js";
import { chat } from "../support/pml/words.js";

/** A tokenizer that costs nothing, so that only the language's own time remains. */
const free = withReading({ encode: (text) => (text === "" ? [] : [1]), decode: () => "" });

test("a schema of 10,000 modules is read, checked, laid out and compiled (bench/pml.ts measures it)", () => {
  const markup = largeSchema();
  const prompt = `<prompt schema="large">${Array.from({ length: 100 }, (_, i) => `<g${i}><m1/><m2 how="so"/></g${i}>`).join("")}Why?</prompt>`;
  const files = mapFiles({ "large.pml": markup });

  const { schema, diagnostics } = readSchema("large.pml", { files });
  const { layout } = layoutSchema(schema ?? build("none"), { tokenizer: free, chat });
  const { prompt: parsed } = parsePrompt(prompt);
  if (!schema || !layout || !parsed) throw new Error("not parsed");
  const { compiled } = compilePrompt(layout, parsed);
  expect(diagnostics).toEqual([]);
  expect(compiled?.modules).toHaveLength(300);
  expect(checkUsage(schema, [parsed])).toHaveLength(1_000); // of 9,800 that are unused
  expect(describe(layout, compiled).modules).toBe(10_000);
});
