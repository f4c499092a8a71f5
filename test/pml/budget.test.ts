import { expect, test } from "vitest";
import { blocksOf, compileWithin, layoutSchema, parsePrompt } from "../../pml/index.js";
import { layoutOf, schemaOf } from "../support/pml/compiling.js";
import { chat, read, wordTokenizer } from "../support/pml/words.js";

const schema = schemaOf(`<schema name="s">
  <module name="rules">Always.</module>
  <module name="a" priority="2">a a a a</module>
  <module name="b" priority="1">b b b b<module name="c" priority="0">c c</module></module>
  <module name="d" priority="1">d d d d</module>
</schema>`);
const tokenizer = wordTokenizer();
const within = (budget: number, includes = "<rules/><a/><b><c/></b><d/>", of = schema) => {
  const { prompt } = parsePrompt(`<prompt schema="s">${includes}Why?</prompt>`);
  return compileWithin(of, prompt!, budget, { tokenizer, chat });
};

test("leaves out modules of the lowest priority first, among equals the last, until the prompt fits", () => {
  const modules = (budget: number) => within(budget).compiled?.modules;
  expect(modules(100)).toEqual(["rules", "a", "b", "b/c", "d"]);
  const whole = within(100).compiled!;
  const tokens = whole.cachedTokens + whole.computedTokens;
  expect(modules(tokens)).toEqual(["rules", "a", "b", "b/c", "d"]);
  expect(modules(tokens - 1)).toEqual(["rules", "a", "b", "d"]);
  expect(modules(tokens - 3)).toEqual(["rules", "a", "b"]);
  expect(modules(tokens - 8)).toEqual(["rules", "a"]);
  expect(modules(tokens - 13)).toEqual(["rules"]);
});

test("leaves no gap for modules that are left out, and reports each", () => {
  const { compiled, diagnostics } = within(11);
  expect(diagnostics.map(({ code, message }) => [code, /`([a-z/]+)`/.exec(message)?.[1]])).toEqual([
    ["module-left-out", "b/c"],
    ["module-left-out", "d"],
    ["module-left-out", "b"],
  ]);
  expect(read(compiled!.plan, tokenizer)).toEqual([
    ["block", { 0: "Always.\n" }],
    ["block", { 2: "a a a a\n" }],
    ["fresh", { 7: "Why?<|im_start|>assistant\n" }],
  ]);
});

test.for(["none", "before"] as const)("uses the blocks that are computed ahead for the modules that stay, context=%s", (context) => {
  const seeing = { ...schema, context };
  const ahead = blocksOf(layoutSchema(seeing, { tokenizer, chat }).layout!);
  const { compiled, diagnostics } = within(13, "<rules/><a/><d/>", seeing);
  expect(diagnostics.map(({ code }) => code)).toContain("module-left-out");
  for (const piece of compiled!.plan.pieces) if ("block" in piece) expect(ahead).toContainEqual(piece.block);
});

test("reports both counts if the prompt is still too long without them", () => {
  expect(within(3).compiled).toBeUndefined();
  expect(within(3).diagnostics.at(-1)).toMatchObject({
    code: "prompt-too-long",
    message: expect.stringMatching(/has \d+ tokens even without the modules that may be left out; 3 are allowed/),
  });
  expect(layoutOf(schema).length).toBeGreaterThan(0);
});
