import { describe as suite, expect, test } from "vitest";
import { checkSchema, importJinja, importPromptCache, messagesOf, parsePrompt, parseSchema, toAnthropic, toOpenAi } from "../../pml/index.js";
import { compiledOf, layoutOf, piecesOf } from "./compiling.js";

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

  test("are PML with what PML does not say taken out and told of, and the marks of programs as text", () => {
    const { markup, notes } = importPromptCache(CONSTRUCTS, "default.xml");
    const { schema, diagnostics } = parseSchema(markup);
    expect(diagnostics).toEqual([]);
    expect(schema && checkSchema(schema).filter(({ severity }) => severity === "error")).toEqual([]);
    expect(notes.map(({ line }) => line)).toEqual([5, 11]);
    expect(notes[1]?.message).toContain("`one`");
    expect(markup).not.toContain("scaffold=");
    const include = `<prompt schema="default"><_preface what="this"><file.py/><two/></_preface></prompt>`;
    const texts = piecesOf(markup, include).flatMap(([, each]) => Object.values(each)).join("");
    expect(texts).toContain("def f(a, b):\n    return 0 <= a < b && b\n");
    expect(texts).toContain("Type 2.");
  });

  test("a prompt stays what it is", () => {
    const { markup } = importPromptCache(`<prompt schema="mbti">\n    <E/><N/>\n</prompt>`, "p.xml");
    expect(parsePrompt(markup).prompt?.children.map((child) => child.kind === "include" && child.name)).toEqual(["E", "N"]);
  });

  test("what is not markup is refused with its place", () => {
    expect(() => importPromptCache(`<schema name="s"><module></schema>`, "s.xml")).toThrow(/s\.xml:1:/);
  });
});

suite("Jinja templates", () => {
  test("text and variables are a module with parameters", () => {
    const { markup, notes } = importJinja("Answer {{ name }} in one line.\n\n{# why #}Question: {{ question }}", "answer");
    expect(parseSchema(markup).diagnostics).toEqual([]);
    expect(piecesOf(markup, `<prompt schema="answer"><template name="Ada" question="Why?"/></prompt>`).flatMap(([, each]) => Object.values(each)).join("")).toContain("Question:");
    expect(layoutOf(markup).length).toBeGreaterThan(2 * 64);
    expect(notes).toHaveLength(2);
  });

  test.for(["{% if x %}a{% endif %}", "{{ a.b }}", "{{ a | upper }}", "{{ a }} {{ a }}", "{% for"])("what is not static is refused: %s", (template) => {
    expect(() => importJinja(template, "t")).toThrow(expect.objectContaining({ code: "bad_markup" }));
  });
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

  test("roles and text are the prompt's, without control text", () => {
    expect(exported(`<today/><order who="Ada"/>`).map(({ role, parts }) => [role, parts.map(({ text }) => text)])).toEqual([
      ["system", ["Be kind."]],
      ["user", ["It rains.\n", "For Ada.\n", "Why?"]],
    ]);
  });

  test("an answer that is begun stays the last message", () => {
    const layout = layoutOf(`<schema name="s"><user>Hi</user></schema>`);
    expect(messagesOf(compiledOf(layout, `<prompt schema="s"><assistant open="true">Well,</assistant></prompt>`)).at(-1)).toMatchObject({ role: "assistant", parts: [{ text: "Well," }] });
  });

  test("for OpenAI what is stable comes first in its message", () => {
    const { messages } = toOpenAi(exported(`<today/><a/><order who="Ada"/>`));
    expect(messages[1]?.content).toMatch(/^w w .*w\nIt rains\.\nFor Ada\.\nWhy\?$/);
  });

  test("for Anthropic breakpoints stand behind modules of the stable beginning, four at most, from 1,024 tokens on", () => {
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
