import { expect, describe as suite, test } from "vitest";
import {
  schema as build,
  checkUsage,
  compileMarkup,
  compilePrompt,
  describe,
  layoutSchema,
  openMarkup,
  parsePrompt,
  readSchema,
} from "../../pml/index.js";
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

suite("counting stops far beyond the context", () => {
  const CONTEXT = 1_000;
  const LETTERS_PER_TOKEN = 4;
  let read = 0;
  const counting = withReading({
    encode: (text) => {
      read += text.length;
      return Array.from({ length: Math.ceil(text.length / LETTERS_PER_TOKEN) }, () => 1);
    },
    decode: () => "",
  });
  const language = { tokenizer: counting, chat, contextLength: CONTEXT, linkTokens: [] };
  const letters = "a".repeat(8 * 2 ** 20);
  const open = (markup: string) => openMarkup(markup, { file: "file", files: mapFiles({}) });
  const compiled = (...markup: string[]) => {
    read = 0;
    return compileMarkup(markup.map(open), { language }).diagnostics.map(({ code }) => code);
  };
  const small = `<schema name="s"><module name="m">For <parameter name="p" length="4" overflow="truncate-end"/></module></schema>`;

  test.for([
    ["a schema's text", [`<schema name="s"><module name="m">${letters}</module></schema>`]],
    [
      "100,000 modules",
      [`<schema name="s">${Array.from({ length: 100_000 }, (_, i) => `<module name="m${i}">of a few words</module>`).join("")}</schema>`],
    ],
    ["a prompt's text", [small, `<prompt schema="s">${letters}</prompt>`]],
    ["an argument", [small, `<prompt schema="s"><m p="${letters}"/>Go.</prompt>`]],
  ] as const)("%s", ([, markup]) => {
    expect(compiled(...markup)).toContain("too-many-tokens");
    expect(read).toBeLessThan(20 * CONTEXT * LETTERS_PER_TOKEN);
  });
});
