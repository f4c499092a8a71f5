import fc from "fast-check";
import { expect, describe as suite, test } from "vitest";
import { parsePrompt, parseSchema } from "../../pml/index.js";
import { layoutOf, piecesOf } from "../support/pml/compiling.js";
import { placeless } from "../support/pml/trees.js";

/** Texts of a schema's content as in its tree, elements by kind. */
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
  test("the five entities and character references are decoded once", () => {
    expect(content("&lt;&gt;&amp;&quot;&apos; &#65;&#x1F600; &amp;lt;")).toEqual([["text", `<>&"' A😀 &lt;`]]);
  });

  test("CDATA is text as written, and tags within it are not tags", () => {
    expect(content("a <![CDATA[<b> & &amp;]]> c")).toEqual([
      ["text", "a "],
      ["text", "<b> & &amp;"],
      ["text", " c"],
    ]);
  });

  test("comments are kept in the tree and have no meaning", () => {
    expect(content("a <!-- <b> & --> c")).toEqual([
      ["text", "a "],
      ["comment", " <b> & "],
      ["text", " c"],
    ]);
    expect(text("a <!-- x --> c<!-- y -->d")).toBe("a  cd");
  });

  test("values have their references decoded and are otherwise kept as written", () => {
    const { prompt } = parsePrompt(`<prompt schema="s"><m a="x&#10;y\n\tz" b='"&amp;"'/></prompt>`);
    expect(placeless(prompt?.children)).toMatchObject([{ arguments: { a: "x\ny\n\tz", b: '"&"' } }]);
  });

  test("a declaration, a byte order mark and comments may precede the element", () => {
    const { schema, diagnostics } = parseSchema(
      `\uFEFF<?xml version="1.0" encoding="UTF-8"?>\r\n<!-- one -->\n<schema name="s"/>\n<!-- two -->\n`,
    );
    expect(diagnostics).toEqual([]);
    expect(schema?.preamble.map((comment) => comment.text)).toEqual([" one ", " two "]);
  });

  test("names may be those of JavaScript's own properties, and in any script", () => {
    const names = ["constructor", "prototype", "toString", "hasOwnProperty", "tōkyō", "東京"];
    const markup = names.map((name) => `<module name="${name}">x</module>`).join("");
    const prompt = `<prompt schema="s">${names.map((name) => `<${name}/>`).join("")}</prompt>`;
    expect(piecesOf(`<schema name="s">${markup}</schema>`, prompt)).toHaveLength(names.length + 1);
  });
});

suite("text", () => {
  test("inner lines and relative indentation are kept; common indentation and blank lines at the ends are removed", () => {
    const written = "\n\n    # Title\n\n    - one\n      - two  \n\t\n    ```py\n    def f():\n        pass\n    ```\n  \n  ";
    const meant = "# Title\n\n- one\n  - two  \n\n```py\ndef f():\n    pass\n```\n";
    expect(text(written)).toBe(meant);
    expect(text(`<user>${written}</user>`)).toBe(`<|bos|><|im_start|>user\n${meant.trimEnd()}<|im_end|>\n`);
    expect(content("one\u00a0 \u00a0two")).toEqual([["text", "one\u00a0 \u00a0two"]]);
  });

  test("text after the tag has no indentation to share", () => {
    expect(text("One,\n    two;\n      three.")).toBe("One,\ntwo;\n  three.");
  });

  test("CDATA keeps its lines; a section that ends its line is followed by no other line end", () => {
    expect(text("\n    x\n    <![CDATA[\n  if a < b:\n    c\n]]>\n    y\n")).toBe("x\n\n  if a < b:\n    c\ny\n");
    expect(text("\n  <![CDATA[ a ]]>\n")).toBe(" a \n");
  });

  test("a character written as a reference is not layout", () => {
    expect(text("\n  &#10;&#32; a&#10;\n")).toBe("\n  a\n\n");
  });

  const modules = (markup: string) => {
    const layout = layoutOf(`<schema name="s">${markup}</schema>`);
    const all = [...layout.root.parts].flatMap((part) =>
      part.kind === "module" ? [part.module] : part.kind === "union" ? part.members : [],
    );
    return all.map(({ own }) => layout.options.tokenizer.decode(own.tokens));
  };

  test("a module or union that has its lines to itself ends with a line feed; one within a line is part of it", () => {
    expect(modules("\n<module name='m'>a</module>\n")).toEqual(["a\n"]);
    expect(modules("\n<module name='m'>\n  a\n</module>\n")).toEqual(["a\n"]);
    expect(
      modules("\n<module name='m'>a</module> <!-- why -->\n<union><module name='n'>b</module><module name='o'>c</module></union>\n"),
    ).toEqual(["a\n", "b\n", "c\n"]);
    expect(modules("You are of <module name='m'>\n  Acme\n</module>.")).toEqual([" Acme"]);
    expect(modules("You are of <union>\n<module name='m'>Acme</module>\n<module name='n'>Beta</module>\n</union>.")).toEqual([
      " Acme",
      " Beta",
    ]);
    expect(text("You are of <module name='m'>Acme</module>.\nBe kind.")).toBe("You are of");
    expect(modules("<module name='m'>a</module><module name='n'>b</module>")).toEqual(["a", "b"]);
  });

  test("lines with only tags are removed with their line feeds, and so are blank lines between them", () => {
    expect(content("\n <module name='m'/> \n\n <module name='n'/> \n")).toEqual(["module", "module"]);
    expect(content("\n one\n\n <module name='m'/>\n\n two\n")).toEqual([["text", "one\n\n"], "module", ["text", "\ntwo\n"]]);
    expect(content("\n one\n <!-- c -->\n two\n")).toEqual([
      ["text", "one\n"],
      ["comment", " c "],
      ["text", "two\n"],
    ]);
  });

  test("whitespace next to a message is layout", () => {
    expect(text("one <user>two</user> three")).toBe("one<|bos|><|im_start|>user\ntwo<|im_end|>\nthree");
    expect(text("\n one\n\n <user>\n two\n </user>\n\n three\n")).toBe("one<|bos|><|im_start|>user\ntwo<|im_end|>\nthree\n");
  });

  test("the space before a parameter is attached to its argument; the one after it stays", () => {
    const schema = `<schema name="s"><module name="m">a <parameter name="p" length="1"/> b(<parameter name="q" length="1"/>)</module></schema>`;
    expect(piecesOf(schema, `<prompt schema="s"><m p="x" q="y"/></prompt>`).slice(0, 3)).toEqual([
      ["block", { 0: "a", 2: " b(", 4: ")" }],
      ["fresh", { 1: " x" }],
      ["fresh", { 3: "y" }],
    ]);
  });

  test('wrap="soft" joins the lines of a paragraph, also in inner elements, until "hard"', () => {
    const prose =
      "\n    One \n    sentence, <module name='m'>and\n      more</module>.\n\n    Two.\n    <module name='n' wrap='hard'>\n a\n b\n    </module>\n    Three.\n";
    const { schema } = parseSchema(`<schema name="s" wrap="soft">${prose}</schema>`);
    expect(placeless(schema?.children)).toMatchObject([
      { text: "One sentence, " },
      { children: [{ text: "and more" }] },
      { text: ".\n\nTwo.\n" },
      { children: [{ text: "a\nb\n" }] },
      { text: "Three.\n" },
    ]);
  });

  test('xml:space="preserve" keeps all whitespace, also in inner elements, until "default"', () => {
    expect(text(`<system xml:space="preserve"> a\n\n b </system>`)).toBe("<|bos|><|im_start|>system\n a\n\n b <|im_end|>\n");
    const schema = `<schema name="s" xml:space="preserve"> a <module name="m">b <parameter name="p" length="2"/></module><module name="n" xml:space="default">\n  c\n</module></schema>`;
    expect(piecesOf(schema, `<prompt schema="s" xml:space="preserve"> <m p="x"/> <n/> e </prompt>`)).toEqual([
      ["block", { 0: " a " }],
      ["block", { 2: "b " }],
      ["fresh", { 4: "x" }],
      ["block", { 6: "c" }],
      ["fresh", { 7: " e <|im_start|>assistant\n" }],
    ]);
  });

  test("a prompt's text loses the end of its last line and the space after its modules", () => {
    expect(piecesOf(`<schema name="s"><module name="m"/></schema>`, `<prompt schema="s">\n <m/> one\n two\n</prompt>`)).toEqual([
      ["fresh", { 0: "one\ntwo<|im_start|>assistant\n" }],
    ]);
    expect(piecesOf(`<schema name="s"/>`, `<prompt schema="s"><user>\n  one\n    two\n</user></prompt>`)).toEqual([
      ["fresh", { 0: "<|bos|><|im_start|>user\none\n  two<|im_end|>\n<|im_start|>assistant\n" }],
    ]);
  });

  test("the model reads any text unchanged, whether it is written in lines or as CDATA", () => {
    const line = fc.stringMatching(/^[ \ta-c.#*`-]{0,8}$/);
    fc.assert(
      fc.property(fc.array(line, { minLength: 1, maxLength: 6 }), fc.stringMatching(/^ {0,6}$/), (lines, indent) => {
        fc.pre(lines.some((each) => each.trim() !== ""));
        const kept = lines.map((each) => (each.trim() === "" ? "" : each));
        while (kept[0] === "") kept.shift();
        while (kept.at(-1) === "") kept.pop();
        const shared =
          kept.filter((each) => each !== "").reduce<string | undefined>((least, each) => sharedIndent(least, each), undefined) ?? "";
        const meant = kept.map((each) => `${each.slice(each === "" ? 0 : shared.length)}\n`).join("");
        expect(text(`\n${lines.map((each) => indent + each).join("\n")}\n`)).toBe(meant);
        const verbatim = lines.join("\n");
        expect(text(`<![CDATA[${verbatim}]]>`)).toBe(verbatim);
      }),
    );
  });
});

function sharedIndent(a: string | undefined, line: string): string {
  const own = /^[ \t]*/.exec(line)![0];
  if (a === undefined) return own;
  let length = 0;
  while (length < a.length && a[length] === own[length]) length++;
  return a.slice(0, length);
}
