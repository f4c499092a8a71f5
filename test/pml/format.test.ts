import fc from "fast-check";
import { expect, describe as suite, test } from "vitest";
import * as builder from "../../pml/index.js";
import { formatBuilder, formatPml, type Prompt, parsePrompt, parseSchema, type Schema } from "../../pml/index.js";
import { anyMarkup, anyPrompt, anySchema, placeless } from "../support/pml/trees.js";

function parseTree(markup: string): Schema | Prompt | undefined {
  const { schema, diagnostics } = parseSchema(markup);
  return schema && diagnostics.length === 0 ? schema : parsePrompt(markup).prompt;
}

/** Runs the code of formatBuilder against this checkout. */
function build(code: string): unknown {
  const [header = "", expression = ""] = code.split("\n\nexport default ");
  const names = /\{ (.*) \}/.exec(header)?.[1] ?? "";
  return new Function("builder", `const { ${names} } = builder; return ${expression}`)(builder);
}

suite("markup and builder make the same trees, and each can be printed as the other", () => {
  test("parsing the printed markup gives the same tree", () => {
    fc.assert(
      fc.property(fc.oneof(anySchema, anyPrompt), (tree) => {
        const markup = formatPml(tree);
        expect(placeless(parseTree(markup))).toEqual(placeless(tree));
        expect(formatPml(parseTree(markup) ?? tree)).toBe(markup);
      }),
      { numRuns: 500 },
    );
  });

  test("any markup keeps its tree and its CDATA sections, and formatting twice changes nothing more", () => {
    fc.assert(
      fc.property(anyMarkup, (content) => {
        const { schema, diagnostics } = parseSchema(`<schema name="s">${content}</schema>`);
        if (!schema || diagnostics.length > 0) return;
        const formatted = formatPml(schema);
        const again = parseSchema(formatted).schema;
        expect(placeless(again)).toEqual(placeless(schema));
        expect(again && formatPml(again)).toBe(formatted);
      }),
      { numRuns: 500 },
    );
  });

  test("running the printed code gives the same tree", () => {
    fc.assert(
      fc.property(fc.oneof(anySchema, anyPrompt), (tree) => {
        expect(build(formatBuilder(tree))).toEqual(placeless(tree));
      }),
      { numRuns: 300 },
    );
  });
});

suite("formatPml", () => {
  const formatted = (markup: string) => {
    const tree = parseTree(markup);
    if (!tree) throw new Error("no tree");
    return formatPml(tree);
  };

  test("indents elements that have lines to themselves, keeps short text on its element's line, and comments where they were", () => {
    expect(
      formatted(`<!-- The trip's schema. --><schema   name='trip'><system>You are a guide.</system>
        <module name="plan">
      Stay for <parameter name="days" length="6"/>.
   <!-- no more -->
        <union><module
        name="miami" src="miami.md"></module><module cache="false" name="tokyo">Tokyo &amp; <![CDATA[<more>]]></module></union></module>
        </schema>`),
    ).toBe(`<!-- The trip's schema. -->
<schema name="trip">
  <system>You are a guide.</system>
  <module name="plan">
    Stay for <parameter name="days" length="6"/>.
    <!-- no more -->
    <union>
      <module name="miami" src="miami.md"/>
      <module name="tokyo" cache="false">Tokyo &amp; <![CDATA[<more>]]></module>
    </union>
  </module>
</schema>
`);
  });

  test("keeps an author's lines, long or short, and CDATA sections", () => {
    const markup = `<schema name="s">
  <module name="code">
    Read this:

    def f(x):
        return x &lt; 1

    <![CDATA[
if a < b and "]]]]><![CDATA[>":
    pass
]]>
    ${"seven chars ".repeat(12)}
  </module>
  <module name="prose" wrap="soft">
    Lines that an author
    wraps.

    Another paragraph.
  </module>
  Written for <union>
    <module name="one">children</module>
    <module name="two">anyone who wants to know more of the world than others have told them until now</module>
  </union>.
</schema>
`;
    expect(formatted(markup)).toBe(markup);
    const untidy = markup.replaceAll("\n  ", "\n        ").replace("          pass", "    pass");
    expect(formatted(untidy)).toBe(markup);
  });

  test("writes characters that would be read as layout as references", () => {
    const tree = builder.schema("s", builder.module("m", "\n  a\n\n"), builder.user(" b\n"), "c");
    expect(formatPml(tree)).toBe(`<schema name="s">
  <module name="m">&#10;&#32;&#32;a&#10;</module>
  <user>&#32;b&#10;</user>
  c</schema>
`);
  });

  test("leaves preserved text as it is", () => {
    const markup = `<schema name="s">\n  <module name="m" xml:space="preserve">  a\n b <parameter name="p" length="1"/> </module>\n</schema>\n`;
    expect(formatted(markup)).toBe(markup);
  });

  test("under preserve, breaks lines only where blank text means nothing: among a prompt's modules and a union's members", () => {
    const prompt = `<prompt schema="s" xml:space="preserve">
  <!-- for Tokyo -->
  <plan days="three">
    <tokyo/>
    <weather/>
  </plan>
  <today/> What should
 I pack?<user> Now. </user></prompt>
`;
    expect(formatted(prompt.replaceAll("\n    ", "").replaceAll("\n  <", "<"))).toBe(prompt);
    expect(formatted(`<prompt schema="s" xml:space="preserve"><a/><b/></prompt>`)).toBe(
      `<prompt schema="s" xml:space="preserve">\n  <a/>\n  <b/>\n</prompt>\n`,
    );
    const schema = `<schema name="s">
  <module name="m" xml:space="preserve">One of <union>
      <module name="a"> 1 </module>
      <module name="b"> 2
 </module>
    </union>: <module name="c" xml:space="default">Three.
      <module name="d">Four.</module>
    </module></module>
</schema>
`;
    expect(formatted(schema)).toBe(schema);
  });

  test("keeps the characters of a prompt's arguments", () => {
    const markup = `<prompt schema="s">\n  <plan days="\na &quot;b&quot; &lt;c>"/>\n  <user>Why?</user>\n</prompt>\n`;
    expect(formatted(markup)).toBe(markup);
  });
});

suite("formatBuilder", () => {
  test("prints TypeScript that a person would write", () => {
    const { schema } = parseSchema(
      `<schema name="trip"><system>You are a guide.</system><module name="plan">Stay for <parameter name="days" length="6"/>.<union><module name="miami" src="miami.md"/><module name="tokyo" cache="false">Tokyo</module></union></module></schema>`,
    );
    expect(schema && formatBuilder(schema)).toBe(`import { module, parameter, schema, system, union } from "kvsplice/pml";

export default schema(
  "trip",
  system("You are a guide."),
  module(
    "plan",
    "Stay for ",
    parameter("days", { length: 6 }),
    ".",
    union(module("miami", { src: "miami.md" }), module("tokyo", { cache: false }, "Tokyo")),
  ),
);
`);
    const { prompt } = parsePrompt(`<prompt schema="trip"><plan days="two"><tokyo/></plan><user>Why?</user></prompt>`);
    expect(prompt && formatBuilder(prompt)).toBe(`import { prompt, user } from "kvsplice/pml";

export default prompt("trip", { "plan": { "days": "two", "tokyo": true } }, user("Why?"));
`);
  });
});
