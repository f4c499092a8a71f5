import { expect, describe as suite, test } from "vitest";
import { KvspliceError } from "../../plan/index.js";
import {
  schema as build,
  type CompileOptions,
  checkUsage,
  compilePrompt,
  DIAGNOSTIC_CODES,
  type Diagnostic,
  type DiagnosticCode,
  type LayoutOptions,
  layoutSchema,
  module,
  parameter,
  parsePrompt,
  parseSchema,
  readSchema,
  renderDiagnostics,
  union,
} from "../../pml/index.js";
import { mapFiles } from "../support/pml/compiling.js";
import { chat, wordTokenizer } from "../support/pml/words.js";

/** Marks the place that the diagnostic names. */
const PLACE = "‸";

type Case = {
  readonly code: DiagnosticCode;
  readonly says?: RegExp;
  /** Markup with the place marked, in `schema` or in `prompt`. */
  readonly schema?: string;
  readonly prompt?: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly layout?: Partial<LayoutOptions>;
  readonly compile?: CompileOptions;
  readonly usage?: true;
};

const SCHEMA = `<schema name="s"><module name="plan">Stay <parameter name="days" length="2"/><union><module name="miami">M</module><module name="tokyo">T</module></union></module><module name="other">O</module></schema>`;

/** One breach per case: the rules of the language, with the code that reports each. */
const CASES: Readonly<Record<string, Case>> = {
  // XML
  "a character that XML does not allow": { code: "bad-encoding", schema: `<schema name="s">a‸\u0001b</schema>`, says: /U\+0001/ },
  "half of a surrogate pair": { code: "bad-encoding", schema: `<schema name="s">‸\ud800</schema>`, says: /U\+D800/ },
  "no element": { code: "bad-xml", schema: "‸", says: /no element/ },
  "text outside the root element": { code: "bad-xml", schema: `<schema name="s"/>\n ‸more` },
  "two root elements": { code: "bad-xml", schema: `<schema name="s"/><‸schema name="t"/>` },
  "a bare less-than sign": { code: "bad-xml", schema: `<schema name="s">1 ‸< 2</schema>`, says: /&lt;/ },
  "a processing instruction": { code: "bad-xml", schema: `‸<?php ?><schema name="s"/>` },
  "dashes within a comment": { code: "bad-xml", schema: `<schema name="s"><!-- a ‸-- b --></schema>` },
  "an incomplete closing tag": { code: "bad-xml", schema: `<schema name="s">‸</ schema></schema>` },
  "a document type": { code: "doctype", schema: `‸<!DOCTYPE schema [<!ENTITY a "b">]><schema name="s"/>` },
  "an attribute without a value": { code: "bad-attribute", schema: `<schema ‸name>x</schema>`, says: /name="\.\.\."/ },
  "an attribute without quotes": { code: "bad-attribute", schema: `<schema ‸name=s>x</schema>` },
  "a quote that is never closed": { code: "bad-attribute", schema: `<schema name=‸"s>x</schema>` },
  "attributes that touch": { code: "bad-attribute", schema: `<schema name="s"‸xml:space="default"/>` },
  "a less-than sign in a value": { code: "bad-attribute", schema: `<schema name="s"><document ref="a‸<b"/></schema>` },
  "a character that no tag contains": { code: "bad-attribute", schema: `<schema name="s" ‸&>x</schema>` },
  "an attribute given twice": { code: "duplicate-attribute", schema: `<schema name="s" ‸name="t"/>` },
  "an entity that XML does not define": { code: "bad-entity", schema: `<schema name="s">a ‸&ampp; b</schema>`, says: /did you mean `amp`/ },
  "a bare ampersand": { code: "bad-entity", schema: `<schema name="s">a ‸& b</schema>`, says: /&amp;/ },
  "an ampersand in a value": { code: "bad-entity", schema: `<schema name="s"><document ref="a‸&b"/></schema>` },
  "a reference to no character": { code: "bad-entity", schema: `<schema name="s">‸&#0;</schema>` },
  "an element that is not closed": {
    code: "unclosed-element",
    schema: `<schema name="s"><‸module name="m">x</schema>`,
    says: /before `<\/schema>`/,
  },
  "a file that ends too early": { code: "unclosed-element", schema: `<‸schema name="s">x` },
  "a tag that is not closed": { code: "unclosed-element", schema: `<schema name="s"><‸module name="m"` },
  "a comment that is not closed": { code: "unclosed-element", schema: `<schema name="s">‸<!-- x</schema>` },
  "a CDATA section that is not closed": { code: "unclosed-element", schema: `<schema name="s">‸<![CDATA[ x</schema>` },
  "a closing tag without an opening one": {
    code: "unopened-element",
    schema: `<schema name="s"></‸modul></schema>`,
    says: /the open element is `<schema>`/,
  },
  "elements nested too deep": { code: "too-deep", schema: `<schema name="s">${"<module name='m'>".repeat(99)}<‸module name="m">` },
  "a file that is too large": { code: "too-large", schema: `‸${" ".repeat(16 * 1024 * 1024 + 1)}` },

  // elements and attributes
  "another root element": { code: "wrong-root", schema: `<‸prompt schema="s"/>`, says: /begins with `<schema>`/ },
  "an unknown element": { code: "unknown-element", schema: `<schema name="s"><‸modul name="m"/></schema>`, says: /did you mean `module`/ },
  "an element within one that takes none": {
    code: "unknown-element",
    schema: `<schema name="s"><document ref="d"><‸x/></document></schema>`,
    says: /takes no elements/,
  },
  "a parameter in the schema itself": {
    code: "misplaced-element",
    schema: `<schema name="s"><‸parameter name="p" length="1"/></schema>`,
    says: /put it into a `<module>`/,
  },
  "a parameter in a message outside modules": {
    code: "misplaced-element",
    schema: `<schema name="s"><user><‸parameter name="p" length="1"/></user></schema>`,
  },
  "a schema in a schema": { code: "misplaced-element", schema: `<schema name="s"><‸schema name="t"/></schema>`, says: /root element/ },
  "a union directly in a union": {
    code: "misplaced-element",
    schema: `<schema name="s"><union><module name="a"/><module name="b"/><‸union/></union></schema>`,
  },
  "a message in a message": {
    code: "misplaced-element",
    schema: `<schema name="s"><user><module name="m"><‸system>x</system></module></user></schema>`,
  },
  "a message among a module's inclusions": {
    code: "misplaced-element",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><other><‸user>x</user></other></prompt>`,
  },
  "a module in a prompt's message": {
    code: "unknown-element",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><user><‸other/></user></prompt>`,
  },
  "text in a union": {
    code: "misplaced-text",
    schema: `<schema name="s"><union><module name="a"/> ‸or <module name="b"/></union></schema>`,
  },
  "text in an inclusion": { code: "misplaced-text", schema: SCHEMA, prompt: `<prompt schema="s"><other>\n  ‸please\n</other></prompt>` },
  "an unknown attribute": {
    code: "unknown-attribute",
    schema: `<schema name="s"><module name="m" ‸cached="no"/></schema>`,
    says: /did you mean `cache`/,
  },
  "a missing attribute": { code: "missing-attribute", schema: `<schema name="s"><‸module>x</module></schema>`, says: /`name`/ },
  "a length that is not a number of tokens": {
    code: "bad-value",
    schema: `<schema name="s"><module name="m"><parameter name="p" length="‸0"/></module></schema>`,
  },
  "a flag that is neither true nor false": { code: "bad-value", schema: `<schema name="s"><module name="m" cache="‸no"/></schema>` },
  "a value that xml:space does not take": { code: "bad-value", schema: `<schema name="s" xml:space="‸keep"/>` },

  // names
  "a name with other characters": { code: "bad-name", schema: `<schema name="s"><module name="‸my module"/></schema>` },
  "a name that starts with a digit": { code: "bad-name", schema: `<schema name="‸1st"/>` },
  "a reserved word as a name": { code: "reserved-name", schema: `<schema name="s"><module name="‸user"/></schema>` },
  "a name given twice among siblings": {
    code: "duplicate-name",
    schema: `<schema name="s">\n<module name="a"/>\n<union><module name="‸a"/><module name="b"/></union></schema>`,
    says: /first at schema\.pml:2/,
  },
  "a parameter and a module with the same name": {
    code: "duplicate-name",
    schema: `<schema name="s"><module name="m"><parameter name="x" length="1"/><user><module name="‸x"/></user></module></schema>`,
  },

  // files
  "a missing file": { code: "unreadable-file", schema: `<schema name="s"><module name="m" src="‸m.md"/></schema>` },
  "a source alongside content": { code: "src-and-content", schema: `<schema name="s"><module name="m" src="‸m.md">x</module></schema>` },
  "a schema that imports itself": { code: "import-cycle", schema: `<schema name="s"><import schema="‸schema.pml"/></schema>` },
  "an import of a schema with text of its own": {
    code: "import-leaves-out",
    schema: `<schema name="s"><import schema="‸t.pml"/></schema>`,
    files: { "t.pml": `<schema name="t">text</schema>` },
  },

  // schemas
  "an open message before the schema's end": { code: "misplaced-open", schema: `<schema name="s"><user ‸open="true">x</user> y</schema>` },
  "an open message in a module": {
    code: "misplaced-open",
    schema: `<schema name="s"><module name="m"><user ‸open="true">x</user></module></schema>`,
  },
  "a default longer than its parameter": {
    code: "default-too-long",
    schema: `<schema name="s"><module name="m"><parameter name="p" length="2" default="‸one two three"/></module></schema>`,
    says: /3 tokens.*reserves 2/,
  },
  "a scaffold of an unknown module": {
    code: "unknown-module",
    schema: `<schema name="s"><module name="apple">1</module><module name="b">2</module><scaffold name="c" modules="‸aple b"/></schema>`,
    says: /did you mean `apple`/,
  },
  "a scaffold of one module": {
    code: "scaffold-of-one",
    schema: `<schema name="s"><module name="a">1</module><‸scaffold name="c" modules="a"/></schema>`,
  },
  "a scaffold that names a module twice": {
    code: "scaffold-conflict",
    schema: `<schema name="s"><module name="a">1</module><scaffold name="c" modules="‸a a"/></schema>`,
  },
  "a scaffold of an uncached module": {
    code: "scaffold-conflict",
    schema: `<schema name="s"><module name="a">1</module><module name="b" cache="false">2</module><scaffold name="c" modules="‸a b"/></schema>`,
  },
  "a scaffold of two members of one union": {
    code: "scaffold-conflict",
    schema: `<schema name="s"><union><module name="a">1</module><module name="b">2</module></union><scaffold name="c" modules="‸a b"/></schema>`,
  },
  "a scaffold of a repeated module": {
    code: "scaffold-conflict",
    schema: `<schema name="s"><module name="a" repeat="2">1</module><module name="b">2</module><scaffold name="c" modules="‸a b"/></schema>`,
  },
  "a condition on an unknown variable": {
    code: "unknown-variable",
    schema: `<schema name="s"><variable name="new" type="boolean"/><module name="a" if="‸nw">1</module></schema>`,
    says: /did you mean `new`/,
  },
  "a parameter filled from an unknown variable": {
    code: "unknown-variable",
    schema: `<schema name="s"><parameter variable="‸who" length="1"/></schema>`,
    says: /<variable name="who"\/>/,
  },
  "a value for an unknown variable": {
    code: "unknown-variable",
    schema: SCHEMA,
    prompt: `<prompt schema="s" ‸who="Ada">x</prompt>`,
    says: /it has none/,
  },
  "a value of another type": {
    code: "bad-value",
    schema: `<schema name="s"><variable name="n" type="number"/></schema>`,
    prompt: `<prompt schema="s" n="‸many">x</prompt>`,
    says: /takes a number/,
  },
  "a variable without a value": {
    code: "missing-argument",
    schema: `<schema name="s"><variable name="n"/></schema>`,
    prompt: `<‸prompt schema="s">x</prompt>`,
  },
  "a default that is not a member": {
    code: "unknown-module",
    schema: `<schema name="s"><union default="‸c"><module name="a">1</module><module name="b">2</module></union></schema>`,
  },
  "a placeholder that is too long": {
    code: "placeholder-too-long",
    schema: `<schema name="s"><module name="m">a <parameter name="p" length="1" placeholder="‸b c"/></module></schema>`,
  },
  "a repeated module that is included too often": {
    code: "included-twice",
    schema: `<schema name="s"><module name="m" repeat="2">1</module></schema>`,
    prompt: `<prompt schema="s"><m/><m/><‸m/>x</prompt>`,
    says: /more times than its `repeat` of 2 allows/,
  },
  "a union of one": { code: "union-of-one", schema: `<schema name="s"><‸union><module name="a"/></union></schema>` },
  "a schema longer than the context": {
    code: "schema-too-long",
    schema: `<‸schema name="s">1 2 3 4</schema>`,
    layout: { contextLength: 3 },
    says: /4 tokens.*3/,
  },
  "a schema far too long for the context": {
    code: "too-many-tokens",
    schema: `<‸schema name="s">${"a ".repeat(20)}</schema>`,
    layout: { contextLength: 4 },
    says: /more than 16 tokens/,
  },
  "text alongside a schema's messages": {
    code: "text-outside-message",
    schema: `<schema name="s"><system>x</system><union><‸module name="m">1</module><module name="n">2</module></union></schema>`,
    says: /module `m`/,
  },
  "a prompt's text outside messages": {
    code: "text-outside-message",
    schema: `<schema name="s"><system>x</system></schema>`,
    prompt: `<prompt schema="s">‸Why?</prompt>`,
    says: /becomes a user message/,
  },
  "a schema's text before a prompt's messages": {
    code: "text-outside-message",
    schema: `<schema name="s">x</schema>`,
    prompt: `<‸prompt schema="s"><user>Why?</user></prompt>`,
  },
  "an argument that is cut": {
    code: "argument-truncated",
    schema: `<schema name="s"><module name="m"><parameter name="p" length="2" overflow="truncate-end"/></module></schema>`,
    prompt: `<prompt schema="s"><m p="‸1 2 3"/>?</prompt>`,
    says: /3 tokens.*reserves 2, so its end/,
  },
  "a default that is cut": {
    code: "argument-truncated",
    schema: `<schema name="s"><module name="m"><parameter name="p" length="1" default="‸1 2" overflow="truncate-start"/></module></schema>`,
    prompt: `<prompt schema="s"><m/>?</prompt>`,
    says: /default.*start/,
  },
  "an unknown overflow": {
    code: "bad-value",
    schema: `<schema name="s"><module name="m"><parameter name="p" length="1" overflow="‸cut"/></module></schema>`,
    says: /truncate-end/,
  },
  "a priority that is not a number": {
    code: "bad-value",
    schema: `<schema name="s"><module name="m" priority="‸high"/></schema>`,
    says: /whole number/,
  },
  "an unknown wrap": { code: "bad-value", schema: `<schema name="s" wrap="‸off"/>`, says: /soft/ },

  // prompts
  "a prompt for another schema": { code: "wrong-schema", schema: SCHEMA, prompt: `<prompt schema="‸t">?</prompt>` },
  "an unknown module": {
    code: "unknown-module",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><plan days="2"><‸toyko/></plan></prompt>`,
    says: /no module `toyko` in `plan`; did you mean `tokyo`\?/,
  },
  "a module from another place": {
    code: "unknown-module",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><‸miami/></prompt>`,
    says: /there is one at `plan\/miami`/,
  },
  "a module included twice": { code: "included-twice", schema: SCHEMA, prompt: `<prompt schema="s"><other/><‸other/></prompt>` },
  "two members of a union": {
    code: "union-conflict",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><plan days="2"><miami/><‸tokyo/></plan></prompt>`,
  },
  "a module after text": { code: "module-after-text", schema: SCHEMA, prompt: `<prompt schema="s">Hello <‸other/></prompt>` },
  "an unknown argument": {
    code: "unknown-argument",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><plan days="2" ‸day="3"/></prompt>`,
    says: /did you mean `days`/,
  },
  "a missing argument": {
    code: "missing-argument",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><‸plan/></prompt>`,
    says: /`days`/,
  },
  "an argument longer than its parameter": {
    code: "argument-too-long",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><plan days="‸one two three"/></prompt>`,
    says: /3 tokens.*reserves 2/,
  },
  "an open message that is not an answer": {
    code: "misplaced-open",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><user ‸open="true">x</user></prompt>`,
  },
  "a document for which the corpus suggests what was meant": {
    code: "unknown-document",
    schema: SCHEMA,
    prompt: `<prompt schema="s"><user>Read <document ref="‸ferry.md#9"/></user></prompt>`,
    compile: {
      documents: (ref) => {
        throw new KvspliceError("unknown_document", `no document \`${ref}\`: did you mean \`ferry.md#1\`?`);
      },
    },
    says: /did you mean `ferry\.md#1`/,
  },
  "an unknown document": { code: "unknown-document", schema: SCHEMA, prompt: `<prompt schema="s"><document ref="‸d"/></prompt>` },
  "nothing for the model to continue": {
    code: "empty-prompt",
    schema: `<schema name="s">x</schema>`,
    prompt: `<‸prompt schema="s"/>`,
    layout: { chat: { ...chat, generationPrompt: "" } },
  },
  "a prompt longer than the context": {
    code: "prompt-too-long",
    schema: `<schema name="s">1 2 3</schema>`,
    prompt: `<‸prompt schema="s">4 5</prompt>`,
    layout: { contextLength: 5 },
    says: /position 8.*has 5/,
  },

  // usage
  "a module that no prompt includes": {
    code: "unused-module",
    schema: `<schema name="s"><‸module name="a">1</module></schema>`,
    prompt: `<prompt schema="s">?</prompt>`,
    usage: true,
  },
  "a parameter that no prompt fills": {
    code: "unused-parameter",
    schema: `<schema name="s"><module name="a">1 <‸parameter name="p" length="1" default="x"/></module></schema>`,
    prompt: `<prompt schema="s"><a/></prompt>`,
    usage: true,
  },
};

function diagnose({ schema = "", prompt, files, layout: layoutOptions, compile, usage }: Case): readonly Diagnostic[] {
  const unmarked = (markup: string) => markup.replace(PLACE, "");
  // Bytes cannot hold half of a surrogate pair.
  const text = unmarked(schema);
  const read = /\p{Surrogate}/u.test(text)
    ? parseSchema(text, { file: "schema.pml" })
    : readSchema("schema.pml", { files: mapFiles({ ...files, "schema.pml": text }) });
  const found = [...read.diagnostics];
  if (!read.schema || found.some(({ severity }) => severity === "error")) return found;
  const { layout, diagnostics } = layoutSchema(read.schema, { tokenizer: wordTokenizer(), chat, ...layoutOptions });
  found.push(...diagnostics);
  if (!layout || prompt === undefined) return found;
  const parsed = parsePrompt(unmarked(prompt), { file: "prompt.pml" });
  found.push(...parsed.diagnostics);
  if (!parsed.prompt || parsed.diagnostics.length > 0) return found;
  found.push(...compilePrompt(layout, parsed.prompt, compile).diagnostics);
  if (usage) found.push(...checkUsage(read.schema, [parsed.prompt]));
  return found;
}

suite("every rule has a diagnostic, at the right place", () => {
  test.for(Object.entries(CASES))("%s", ([, breach]) => {
    const inSchema = breach.schema?.includes(PLACE) ?? false;
    const before = ((inSchema ? breach.schema : breach.prompt) ?? "").split(PLACE)[0] ?? "";
    const lines = before.split("\n");
    const found = diagnose(breach).filter(({ code }) => code === breach.code);
    expect(found).toHaveLength(1);
    expect(found[0]?.place).toMatchObject({
      file: inSchema ? "schema.pml" : "prompt.pml",
      line: lines.length,
      column: (lines.at(-1)?.length ?? 0) + 1,
    });
    expect(found[0]?.message).toMatch(breach.says ?? /./);
  });

  test("the markup above has no other errors", () => {
    const others = Object.values(CASES).flatMap((breach) =>
      diagnose(breach).filter(({ code, severity }) => severity === "error" && code !== breach.code),
    );
    expect(others.map(({ code }) => code)).toEqual([]);
  });

  test("no rule is without a case", () => {
    const elsewhere: DiagnosticCode[] = ["outside-folder", "unread-file", "module-left-out"]; // files.test.ts, budget.test.ts
    const told = new Set([...Object.values(CASES).map(({ code }) => code), ...elsewhere]);
    expect(DIAGNOSTIC_CODES.filter((code) => !told.has(code))).toEqual([]);
  });
});

suite("diagnostics", () => {
  test("all errors of a run are reported, not only the first", () => {
    const { diagnostics } = readSchema("s.pml", {
      files: mapFiles({
        "s.pml": `<schema name="s"><modul/><module name="user" cache="no">&foo;</module><module name="a"/><module name="a"/></schema>`,
      }),
    });
    expect(diagnostics.map(({ code }) => code)).toEqual(
      ["bad-entity", "unknown-element", "bad-value", "reserved-name", "duplicate-name"].sort((a, b) => order(a) - order(b)),
    );
    function order(code: string): number {
      return diagnostics.findIndex((each) => each.code === code);
    }
  });

  test("so are all XML errors: mismatched tags do not hide each other", () => {
    const { diagnostics } = parseSchema(`<schema name="s"><a></b><c x=1></c></schema>`);
    expect(diagnostics.map(({ code }) => code)).toEqual(["unopened-element", "bad-attribute", "unclosed-element"]);
  });

  test("at most a thousand are reported", () => {
    const { diagnostics } = parseSchema(`<schema name="s">${"<x/>".repeat(5_000)}</schema>`);
    expect(diagnostics).toHaveLength(1_000);
  });

  test("they are rendered with file, line, column, the line, and carets below the place", () => {
    const { prompt } = parsePrompt(`<prompt schema="s">\n\t<plan days="2"><toyko/></plan>\n</prompt>`, { file: "p.pml" });
    const { schema } = parseSchema(SCHEMA);
    const { layout } = layoutSchema(schema ?? build("none"), { tokenizer: wordTokenizer(), chat });
    if (!layout || !prompt) throw new Error("no layout");
    expect(renderDiagnostics(compilePrompt(layout, prompt).diagnostics)).toBe(
      [
        "p.pml:2:18: error: no module `toyko` in `plan`; did you mean `tokyo`? [unknown-module]",
        '  2 | \t<plan days="2"><toyko/></plan>',
        "    | \t                ^^^^^",
      ].join("\n"),
    );
  });

  test("carets align with characters that a terminal shows in two columns, or in none", () => {
    const caretsOf = (text: string) => {
      const rendered = renderDiagnostics(parseSchema(`<schema name="s">${text}<modul/></schema>`).diagnostics).split("\n");
      return [rendered[1]!, rendered[2]!].map((line) => line.slice("  1 | ".length));
    };
    const [, plain = ""] = caretsOf("abcd");
    expect(caretsOf("東京")[1]).toBe(plain);
    expect(caretsOf("abcd\u0301")[1]).toBe(plain);
    expect(caretsOf("ab😀")[1]).toBe(plain);
  });

  test("a long line is cut to a window around the place", () => {
    const { diagnostics } = parseSchema(`<schema name="s">${"x".repeat(10_000)}<modul/>${"y".repeat(10_000)}</schema>`);
    const [place] = diagnostics.map((diagnostic) => diagnostic.place);
    expect(place).toMatchObject({ line: 1, column: 10_019 });
    expect(place?.excerpt.length).toBeLessThanOrEqual(120);
    expect(renderDiagnostics(diagnostics)).toMatch(/x<modul\/>y+\n.*\^{5}$/);
  });

  test("lines are counted the same way with every kind of line end", () => {
    for (const end of ["\n", "\r\n", "\r"]) {
      const { diagnostics } = parseSchema(`\uFEFF<schema name="s">${end}${end}  <modul/></schema>`);
      expect(diagnostics[0]?.place).toMatchObject({ line: 3, column: 4 });
    }
  });

  test("trees from the builder must follow the same rules; their diagnostics have no place", () => {
    const tree = build("s", module("user", parameter("p", { length: 0 }), union(module("a"))));
    const { layout, diagnostics } = layoutSchema(tree, { tokenizer: wordTokenizer(), chat });
    expect(layout).toBeUndefined();
    expect(diagnostics.map(({ code }) => code)).toEqual(["reserved-name", "bad-value", "union-of-one"]);
    expect(diagnostics.every(({ place }) => place === undefined)).toBe(true);
    expect(renderDiagnostics(diagnostics.slice(0, 1))).toBe(
      "error: `user` is a reserved word; give the module another name [reserved-name]",
    );
  });

  test("valid markup has no diagnostics", () => {
    expect(diagnose({ code: "bad-xml", schema: SCHEMA, prompt: `<prompt schema="s"><plan days="two"><tokyo/></plan>?</prompt>` })).toEqual(
      [],
    );
  });
});
