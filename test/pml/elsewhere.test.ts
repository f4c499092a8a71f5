import { readFileSync } from "node:fs";
import { expect, describe as suite, test } from "vitest";
import {
  checkSchema,
  importJinja,
  importPromptCache,
  messagesOf,
  parsePrompt,
  parseSchema,
  toAnthropic,
  toOpenAi,
} from "../../pml/index.js";
import { compiledOf, layoutOf, piecesOf } from "../support/pml/compiling.js";

suite("schemas and prompts of Prompt Cache", () => {
  const CONSTRUCTS = `<!-- a comment before -->
<schema name="default">
    <module name="_preface">
        Some text with a parameter:
        <parameter name="what" length="5" scaffold="[to be told]"/>
        <module name="file.py">
def f(a, b):
    return 0 <= a < b && b
        </module>
        <system>
            <union scaffold="one">
                <module name="one">Type 1.</module>
                <module name='two' cache="false">Type 2.</module>
                <module name="none"></module>
            </union>
        </system>
    </module>
    <user>For the duration of<parameter-text/></user>
</schema>`.replace("<parameter-text/>", " a week");

  test("become PML whose modules see the same, and bare `<` and `&` in program text become text", () => {
    const { markup, notes } = importPromptCache(CONSTRUCTS, "default.xml");
    const { schema, diagnostics } = parseSchema(markup);
    expect(diagnostics).toEqual([]);
    expect(schema && checkSchema(schema).filter(({ severity }) => severity === "error")).toEqual([]);
    expect(notes).toEqual([]);
    expect(markup).toContain(`<schema name="default" context="all">`);
    expect(markup).toContain(`<union default="one">`);
    expect(markup).toContain(`placeholder="[to be told]"`);
    expect(markup).not.toContain("scaffold=");
    const include = `<prompt schema="default"><_preface what="this"><file.py/><two/></_preface></prompt>`;
    const texts = piecesOf(markup, include)
      .flatMap(([, each]) => Object.values(each))
      .join("");
    expect(texts).toContain("def f(a, b):\n    return 0 <= a < b && b\n");
    expect(texts).toContain("Type 2.");
  });

  test("the example's schema is the import of its source", () => {
    const file = (name: string) => readFileSync(new URL(`../../examples/pml/migration/${name}`, import.meta.url), "utf8");
    expect(importPromptCache(file("city.xml"), "city.xml").markup).toBe(file("schema.pml"));
  });

  test("other modules see the first member of a union without a scaffold", () => {
    const { markup } = importPromptCache(
      `<schema name="s"><union><module name="a">A</module><module name="b">B</module></union></schema>`,
      "s.xml",
    );
    expect(markup).toContain(`<union default="a">`);
  });

  test("a prompt does not change", () => {
    const { markup } = importPromptCache(`<prompt schema="mbti">\n    <E/><N/>\n</prompt>`, "p.xml");
    expect(parsePrompt(markup).prompt?.children.map((child) => child.kind === "include" && child.name)).toEqual(["E", "N"]);
  });

  test("text that is not markup is refused with its place", () => {
    expect(() => importPromptCache(`<schema name="s"><module></schema>`, "s.xml")).toThrow(/s\.xml:1:/);
  });
});

test("a message with a variable's value in its own text stays in order for OpenAI", () => {
  const schema = `<schema name="s"><variable name="who"/><system>Help <parameter variable="who" length="2"/> well. <module name="m">Be kind.</module></system></schema>`;
  const compiled = compiledOf(layoutOf(schema), `<prompt schema="s" who="Ada"><m/><user>Hi</user></prompt>`);
  expect(toOpenAi(messagesOf(compiled)).messages[0]).toEqual({ role: "system", content: "Help Ada well. Be kind." });
});

suite("Jinja templates", () => {
  test("text and variables are a module with parameters", () => {
    const { markup, notes } = importJinja("Answer {{ name }} in one line.\n\n{# why #}Question: {{ question }}", "answer");
    expect(parseSchema(markup).diagnostics).toEqual([]);
    expect(
      piecesOf(markup, `<prompt schema="answer"><template name="Ada" question="Why?"/></prompt>`)
        .flatMap(([, each]) => Object.values(each))
        .join(""),
    ).toContain("Question:");
    expect(layoutOf(markup).length).toBeGreaterThan(2 * 64);
    expect(notes).toHaveLength(2);
  });

  test("a variable used in two places becomes a variable of the schema", () => {
    const { markup, notes } = importJinja("Dear {{ name }}, {{ greeting }}. Yours, {{ name }}", "letter");
    expect(notes).toHaveLength(2);
    const text = compiledOf(layoutOf(markup), `<prompt schema="letter" name="Ada"><template greeting="hello"/>Go.</prompt>`)
      .segments.map((each) => each.text)
      .join("");
    expect(text).toContain("Dear Ada, hello. Yours, Ada");
  });

  const said = (markup: string, prompt: string) =>
    messagesOf(compiledOf(layoutOf(markup), prompt)).map(({ role, parts }) => [role, parts.map(({ text }) => text).join("")]);

  test.for([
    [
      "lines of roles",
      "system:\nYou are {{ name }}.\n  Be brief.\n\n# User:\nHi, {{ name }}\nassistant:\nuser: x\n\nuser:\n\n{{ question }}\n",
    ],
    [
      "ChatML",
      "<|im_start|>system\nYou are {{ name }}.\n  Be brief.<|im_end|>\n<|im_start|>user\nHi, {{ name }}<|im_end|>\n<|im_start|>assistant\nuser: x<|im_end|>\n<|im_start|>user\n{{ question }}<|im_end|>\n<|im_start|>assistant\n",
    ],
  ] as const)("a chat prompt becomes messages: %s", ([, template]) => {
    const { markup } = importJinja(template, "chat");
    expect(parseSchema(markup).diagnostics).toEqual([]);
    expect(said(markup, `<prompt schema="chat" name="Ada"><template question="Why?"/></prompt>`)).toEqual([
      ["system", "You are Ada.\n  Be brief."],
      ["user", "Hi, Ada"],
      ["assistant", "user: x"],
      ["user", "Why?"],
    ]);
  });

  test("a role's name within a text that begins otherwise is text", () => {
    const { markup } = importJinja("This is a play.\nuser:\n{{ line }}", "play");
    expect(said(markup, `<prompt schema="play"><template line="Oh!"/>Go on.</prompt>`)).toEqual([
      ["user", "This is a play.\nuser:\nOh!Go on."],
    ]);
  });

  test.for(["{% if x %}a{% endif %}", "{{ a.b }}", "{{ a | upper }}", "{% for"])(
    "anything that is not static is refused: %s",
    (template) => {
      expect(() => importJinja(template, "t")).toThrow(expect.objectContaining({ code: "bad_markup" }));
    },
  );
});

suite("messages of other APIs", () => {
  const long = (name: string, tokens: number) => `<module name="${name}">${"w ".repeat(tokens - 1)}w</module>`;
  const schema = `<schema name="s">
    <system>Be kind.</system>
    <user open="true">
      <module name="today" cache="false">It rains.</module>
      ${["a", "b", "c", "d", "e", "f"].map((name) => long(name, 600)).join("\n")}
      <module name="order">For <parameter name="who" length="2"/>.</module>
    </user>
  </schema>`;
  const all = "<a/><b/><c/><d/><e/><f/>";
  const exported = (includes: string) => messagesOf(compiledOf(layoutOf(schema), `<prompt schema="s">${includes}Why?</prompt>`));

  test("have the prompt's roles and text, without control text", () => {
    expect(exported(`<today/><order who="Ada"/>`).map(({ role, parts }) => [role, parts.map(({ text }) => text)])).toEqual([
      ["system", ["Be kind."]],
      ["user", ["It rains.\n", "For Ada.\n", "Why?"]],
    ]);
  });

  test("keep an answer that is begun as the last message", () => {
    const layout = layoutOf(`<schema name="s"><user>Hi</user></schema>`);
    expect(messagesOf(compiledOf(layout, `<prompt schema="s"><assistant open="true">Well,</assistant></prompt>`)).at(-1)).toMatchObject({
      role: "assistant",
      parts: [{ text: "Well," }],
    });
  });

  test("put stable text first in its message, for OpenAI", () => {
    const { messages } = toOpenAi(exported(`<today/><a/><order who="Ada"/>`));
    expect(messages[1]?.content).toMatch(/^w w .*w\nIt rains\.\nFor Ada\.\nWhy\?$/);
  });

  test("have at most four breakpoints, after modules of the stable beginning and from 1,024 tokens on, for Anthropic", () => {
    const blocks = ({ system, messages }: ReturnType<typeof toAnthropic>) => [...system, ...messages.flatMap(({ content }) => content)];
    const marked = blocks(toAnthropic(exported(all))).map((block) => block.cache_control !== undefined);
    expect(marked.filter(Boolean).length).toBeGreaterThan(1);
    expect(marked.filter(Boolean).length).toBeLessThanOrEqual(4);
    expect(marked[0]).toBe(false); // the system message
    expect(marked[1]).toBe(false); // 600 tokens
    expect(marked[6]).toBe(true); // the last stable module
    expect(marked[7]).toBe(false); // the question
    expect(blocks(toAnthropic(exported("<a/>"))).some(({ cache_control }) => cache_control)).toBe(false);
    expect(blocks(toAnthropic(exported(`<today/>${all}`))).some(({ cache_control }) => cache_control)).toBe(false);
  });
});
