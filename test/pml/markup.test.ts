import { describe as suite, expect, test } from "vitest";
import { parsePrompt, parseSchema } from "../../pml/index.js";
import { piecesOf } from "./compiling.js";
import { placeless } from "./trees.js";

/** Texts of a schema's content as they stand in its tree, elements by their kind. */
function content(markup: string): unknown {
  const { schema, diagnostics } = parseSchema(`<schema name="s">${markup}</schema>`);
  expect(diagnostics).toEqual([]);
  return schema?.children.map((node) => (node.kind === "text" || node.kind === "comment" ? [node.kind, node.text] : node.kind));
}

/** The text of an anonymous module as it is tokenised. */
function text(markup: string): string {
  const [piece] = piecesOf(`<schema name="s">${markup}</schema>`, `<prompt schema="s"/>`);
  return piece?.[1][0] ?? "";
}

suite("XML", () => {
  test("the five entities and references to characters, decoded once", () => {
    expect(content("&lt;&gt;&amp;&quot;&apos; &#65;&#x1F600; &amp;lt;")).toEqual([["text", `<>&"' A😀 &lt;`]]);
  });

  test("CDATA is text as it is written, one with the text around it", () => {
    expect(content("a <![CDATA[<b> & &amp;]]> c")).toEqual([["text", "a <b> & &amp; c"]]);
  });

  test("comments are kept in the tree and say nothing", () => {
    expect(content("a <!-- <b> & --> c")).toEqual([["text", "a "], ["comment", " <b> & "], ["text", "c"]]);
    expect(text("a <!-- x --> c<!-- y -->d")).toBe("a cd\n");
  });

  test("values have their references decoded; written line ends and tabs become spaces", () => {
    const { prompt } = parsePrompt(`<prompt schema="s"><m a="x&#10;y\n\tz" b='"&amp;"'/></prompt>`);
    expect(placeless(prompt?.children)).toMatchObject([{ arguments: { a: "x\ny  z", b: '"&"' } }]);
  });

  test("a declaration, a byte order mark and comments may stand before the element", () => {
    const { schema, diagnostics } = parseSchema(`\uFEFF<?xml version="1.0" encoding="UTF-8"?>\r\n<!-- one -->\n<schema name="s"/>\n<!-- two -->\n`);
    expect(diagnostics).toEqual([]);
    expect(schema?.preamble.map((comment) => comment.text)).toEqual([" one ", " two "]);
  });

  test("names may be those of JavaScript's own properties, and of any script", () => {
    const names = ["constructor", "prototype", "toString", "hasOwnProperty", "tōkyō", "東京"];
    const markup = names.map((name) => `<module name="${name}">x</module>`).join("");
    const prompt = `<prompt schema="s">${names.map((name) => `<${name}/>`).join("")}</prompt>`;
    expect(piecesOf(`<schema name="s">${markup}</schema>`, prompt)).toHaveLength(names.length + 1);
  });
});

suite("whitespace", () => {
  test("runs become one space, and none is left at the ends of a line", () => {
    expect(content("\n  one \t two\n  three  \n")).toEqual([["text", "one two three"]]);
    expect(content("one\u00a0 \u00a0two")).toEqual([["text", "one\u00a0 \u00a0two"]]);
  });

  test("an element other than a parameter or a comment ends the line", () => {
    expect(content("one <module name='m'/> two <document ref='d'/>")).toEqual([["text", "one"], "module", ["text", "two"], "document"]);
  });

  test("every line ends with a line feed, unless control text follows it", () => {
    expect(text("one")).toBe("one\n");
    expect(text("one <module name='m'/> two")).toBe("one\ntwo\n");
    expect(text("one <user>two</user> three")).toBe("one<|bos|><|im_start|>user\ntwo<|im_end|>\nthree\n");
    expect(text("<user>one<module name='m'/></user>")).toBe("<|bos|><|im_start|>user\none\n<|im_end|>\n");
  });

  test("blank text is nothing, but for the space between two parameters", () => {
    expect(content(" <module name='m'/> \n <module name='n'/> ")).toEqual(["module", "module"]);
    const schema = `<schema name="s"><module name="m"> <parameter name="a" length="1"/> <parameter name="b" length="1"/> </module></schema>`;
    expect(piecesOf(schema, `<prompt schema="s"><m a="x" b="y"/></prompt>`)).toEqual([
      ["block", { 2: "\n" }],
      ["fresh", { 0: "x y" }],
      ["fresh", { 3: "<|im_start|>assistant\n" }],
    ]);
  });

  test("the space before a parameter goes to its argument; the one after it stays", () => {
    const schema = `<schema name="s"><module name="m">a <parameter name="p" length="1"/> b(<parameter name="q" length="1"/>)</module></schema>`;
    expect(piecesOf(schema, `<prompt schema="s"><m p="x" q="y"/></prompt>`).slice(0, 3)).toEqual([
      ["block", { 0: "a", 2: " b(", 4: ")\n" }],
      ["fresh", { 1: " x" }],
      ["fresh", { 3: "y" }],
    ]);
  });

  test('xml:space="preserve" keeps all of it, for what stands within too, until "default"', () => {
    expect(text(`<system xml:space="preserve"> a\n\n b </system>`)).toBe("<|bos|><|im_start|>system\n a\n\n b <|im_end|>\n");
    const schema = `<schema name="s" xml:space="preserve"> a <module name="m">b <parameter name="p" length="2"/></module><module name="n" xml:space="default"> c  d </module></schema>`;
    expect(piecesOf(schema, `<prompt schema="s" xml:space="preserve"> <m p="x"/> <n/> e </prompt>`)).toEqual([
      ["block", { 0: " a " }],
      ["block", { 2: "b " }],
      ["fresh", { 4: "x" }],
      ["block", { 6: "c d\n" }],
      ["fresh", { 9: " e <|im_start|>assistant\n" }],
    ]);
  });

  test("of a prompt's text none is left at its end", () => {
    expect(piecesOf(`<schema name="s"/>`, `<prompt schema="s">\n one\n <user> two </user>\n three\n</prompt>`)).toEqual([
      ["fresh", { 0: "one<|bos|><|im_start|>user\ntwo<|im_end|>\nthree<|im_start|>assistant\n" }],
    ]);
  });
});
