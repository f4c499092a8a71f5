import fc from "fast-check";
import { expect, describe as suite, test } from "vitest";
import { tokensOf } from "../../plan/index.js";
import { compilePrompt, naturalPlan, renderPrompt, textOfPrompt } from "../../pml/index.js";
import { anyCase } from "../support/pml/cases.js";
import { compiledOf, layoutOf } from "../support/pml/compiling.js";

const SCHEMA = `<schema name="s">
  <system>Be kind.</system>
  <user open="true">
    <module name="a">Stay for <parameter name="days" length="4"/> now.</module>
    <module name="b">Left out.</module>
  </user>
</schema>`;
const PROMPT = `<prompt schema="s"><a days="two days"/>Why?</prompt>`;

suite("a prompt as the model reads it", () => {
  const layout = layoutOf(SCHEMA);
  const compiled = compiledOf(layout, PROMPT);

  test("has each text with its place, role and origin, and the gaps between", () => {
    expect(renderPrompt(compiled)).toMatchObject([
      { text: "<|bos|><|im_start|>system\n", control: true, cached: true, role: "system", start: 0 },
      { text: "Be kind.", control: false, cached: true, from: { kind: "module", name: "s" } },
      { text: "<|im_end|>\n", control: true },
      { text: "<|im_start|>user\n", role: "user" },
      { text: "Stay for", cached: true, from: { kind: "module", name: "a" }, start: 11, end: 13 },
      { text: " two days", cached: false, from: { kind: "argument", name: "a/days" }, start: 13, end: 15 },
      { kind: "gap", start: 15, end: 17 },
      { text: " now.\n", cached: true },
      { kind: "gap", start: 19, end: 22 },
      { text: "Why?", cached: false, role: "user", from: { kind: "prompt", name: "" } },
      { text: "<|im_end|>\n", control: true, role: "user" },
      { text: "<|im_start|>assistant\n", control: true, role: "assistant" },
    ]);
  });

  test("its text is the text of the files, without modules", () => {
    expect(textOfPrompt(compiled)).toBe(
      "<|bos|><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nStay for two days now.\nWhy?<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  test("a system message that the template inserts is shown", () => {
    const inserting = {
      ...layout.options.chat,
      frame: (role: string, after: unknown) => ({
        open: after === undefined && role !== "system" ? `<|sys|>Default.<|${role}|>` : `<|${role}|>`,
        close: "",
      }),
    };
    const plain = layoutOf(`<schema name="s"><user open="true"><module name="a">A</module></user></schema>`, { chat: inserting });
    expect(textOfPrompt(compiledOf(plain, `<prompt schema="s"><a/>Why?</prompt>`))).toContain("<|sys|>Default.<|user|>A");
  });
});

test("the natural prompt has the same text at adjacent positions, with arguments in place", () => {
  fc.assert(
    fc.property(anyCase, ({ schema, prompt }) => {
      const layout = layoutOf(schema);
      const { compiled } = compilePrompt(layout, prompt);
      if (!compiled) return;
      const { tokenizer } = layout.options;
      const natural = naturalPlan(compiled, { tokenizer });
      expect(natural.pieces).toHaveLength(1);
      expect(natural.pieces[0]).toMatchObject({ at: 0 });
      expect(tokenizer.decode(tokensOf(natural))).toBe(textOfPrompt(compiled));
    }),
    { numRuns: 200 },
  );
});
