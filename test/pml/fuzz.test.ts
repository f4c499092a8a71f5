import fc from "fast-check";
import { expect, describe as suite, test } from "vitest";
import { KvspliceError } from "../../plan/index.js";
import {
  checkUsage,
  compilePrompt,
  describe,
  formatBuilder,
  formatPml,
  hasErrors,
  layoutSchema,
  parsePrompt,
  parseSchema,
  readSchema,
  renderDiagnostics,
  throwOnErrors,
} from "../../pml/index.js";
import { mapFiles } from "../support/pml/compiling.js";
import { anyPrompt, anySchema } from "../support/pml/trees.js";
import { chat, wordTokenizer } from "../support/pml/words.js";

/** Everything that can be done with a schema and a prompt. What a diagnostic reports must not throw as well. */
function runAll(schemaMarkup: string | Uint8Array, promptMarkup: string | Uint8Array): void {
  const bytes = typeof schemaMarkup === "string" ? new TextEncoder().encode(schemaMarkup) : schemaMarkup;
  const others = mapFiles({ "a.pml": `<schema name="a"><module name="a">x</module></schema>`, a: "text" });
  const files = { read: (path: string, from: string) => (path === "fuzz.pml" ? { file: path, bytes } : others.read(path, from)) };
  const read = readSchema("fuzz.pml", { files });
  renderDiagnostics(read.diagnostics);
  const { prompt, diagnostics } = parsePrompt(promptMarkup);
  renderDiagnostics(diagnostics);
  if (prompt) {
    formatPml(prompt);
    formatBuilder(prompt);
  }
  if (!read.schema || !read.written) {
    expect(hasErrors(read.diagnostics)).toBe(true);
    return;
  }
  formatPml(read.written);
  formatBuilder(read.written);
  const laid = layoutSchema(read.schema, { tokenizer: wordTokenizer(), chat, contextLength: 1_000 });
  expect(laid.layout === undefined).toBe(hasErrors(laid.diagnostics));
  if (!laid.layout) return;
  describe(laid.layout);
  if (!prompt) return;
  const { compiled, diagnostics: compiling } = compilePrompt(laid.layout, prompt);
  renderDiagnostics(compiling);
  expect(compiled === undefined).toBe(hasErrors(compiling));
  checkUsage(read.schema, [prompt]);
}

const SCHEMA = `<?xml version="1.0"?><!-- trip --><schema name="trip"><system>You &amp; me.</system>
  <module name="plan">Stay for <parameter name="days" length="6" default="two"/>.<union><module name="miami" src="a"/>
  <module name="tokyo" xml:space="preserve">Tokyo <![CDATA[<is>]]></module></union></module><import schema="a.pml"/>
  <scaffold name="both" modules="plan plan/tokyo"/><module name="today" cache="false">It rains.</module><user open="true">Hi</user></schema>`;
const PROMPT = `<prompt schema="trip"><plan days="three days"><tokyo/></plan><today/><a/>What <!-- x --> now?<user>Hm</user></prompt>`;

/** Pieces of the language, which a parser must cope with in any order. */
const token = fc.constantFrom(
  ..."<>/=\"'&; \n\t\0\r!?-[]x1é😀\uFFFE\uD800".split(""),
  ...[
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    "<!DOCTYPE x [<!ENTITY e 'e'>]>",
    "&e;",
    "&#0;",
    "&#x110000;",
    "&#99999999999999999999;",
  ],
  ...[
    "<schema",
    "<prompt",
    "<module",
    "<union>",
    "<parameter",
    "<scaffold",
    "<import",
    "<document",
    "<user>",
    "</user>",
    "</module>",
    "</schema>",
  ],
  ...[
    ' name="a"',
    ' name="__proto__"',
    ' length="1e9"',
    ' length="-1"',
    ' src="../../../etc/passwd"',
    ' schema="fuzz.pml"',
    ' modules="a/../a"',
  ],
  ...[' xml:space="preserve"', "<constructor/>", "<__proto__/>", "<schema name='s'>", "<plan", " days='x'"],
);

type Edit = { readonly at: number; readonly remove: number; readonly insert: string };
const edit: fc.Arbitrary<Edit> = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  remove: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 30 })),
  insert: fc.oneof(
    fc.constant(""),
    fc.array(token, { maxLength: 3 }).map((tokens) => tokens.join("")),
  ),
});

function mutate(text: string, edits: readonly Edit[]): string {
  return edits.reduce((mutated, { at, remove, insert }) => {
    const start = Math.floor(at * mutated.length);
    return mutated.slice(0, start) + insert + mutated.slice(start + remove);
  }, text);
}

suite("no input makes the language throw or hang", { timeout: 120_000 }, () => {
  test("6,000 schemas and prompts with edits", () => {
    const edits = fc.array(edit, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(edits, edits, (first, second) => runAll(mutate(SCHEMA, first), mutate(PROMPT, second))),
      { numRuns: 6_000 },
    );
  });

  test("3,000 random orders of the language's pieces", () => {
    const soup = fc.array(token, { maxLength: 40 }).map((tokens) => tokens.join(""));
    const framed = fc.oneof(
      soup,
      soup.map((inner) => `<schema name="s">${inner}</schema>`),
      soup.map((inner) => `<prompt schema="s">${inner}</prompt>`),
    );
    fc.assert(fc.property(framed, framed, runAll), { numRuns: 3_000 });
  });

  test("1,500 runs of random bytes, alone and within markup", () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    const within = fc.tuple(bytes, fc.nat(SCHEMA.length)).map(([inner, at]) => {
      const markup = new TextEncoder().encode(SCHEMA);
      return Uint8Array.from([...markup.subarray(0, at), ...inner, ...markup.subarray(at)]);
    });
    fc.assert(fc.property(fc.oneof(bytes, within), bytes, runAll), { numRuns: 1_500 });
  });

  test("1,500 well-formed trees of any meaning", () => {
    fc.assert(
      fc.property(anySchema, anyPrompt, (schema, prompt) => runAll(formatPml(schema), formatPml(prompt))),
      { numRuns: 1_500 },
    );
  });
});

/** So large that anything that is not linear in them would exceed every test's time limit. */
suite("hostile inputs are reported at once", () => {
  const MILLION = 1_000_000;
  const bomb = `<!DOCTYPE s [<!ENTITY a0 "ha">${Array.from({ length: 50 }, (_, i) => `<!ENTITY a${i + 1} "&a${i};&a${i};">`).join("")}]><schema name="s">&a50;</schema>`;
  const hostile: Readonly<Record<string, string>> = {
    "a million open tags": "<a>".repeat(MILLION),
    "a million open modules": `<schema name="s">${'<module name="m">'.repeat(100_000)}`,
    "deep nesting that is closed": `<schema name="s">${'<module name="m">'.repeat(5_000)}${"</module>".repeat(5_000)}</schema>`,
    "a million closing tags": `<schema name="s">${"</a>".repeat(MILLION)}`,
    "an entity bomb": bomb,
    "an external entity": `<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><schema name="s">&x;</schema>`,
    "a huge name": `<schema name="${"x".repeat(5 * MILLION)}é!"/>`,
    "a huge tag": `<schema name="s"><${"x".repeat(5 * MILLION)}/></schema>`,
    "a hundred thousand attributes": `<schema name="s" ${Array.from({ length: 100_000 }, (_, i) => `a${i}="x"`).join(" ")}/>`,
    "a million spaces in a tag": `<schema ${" ".repeat(MILLION)}name="s"${" ".repeat(MILLION)}x/>`,
    "a million quotes": `<schema name=${'"'.repeat(MILLION)}/>`,
    "a million ampersands": `<schema name="s">${"&".repeat(MILLION)}</schema>`,
    "a million less-than signs": `<schema name="s">${"<".repeat(MILLION)}</schema>`,
    "a million comments that do not end": `<schema name="s">${"<!-".repeat(MILLION)}</schema>`,
    "unknown elements by the hundred thousand": `<schema name="s">${"<modul/>".repeat(100_000)}</schema>`,
    "four million elements": `<schema name="s">${"<a/>".repeat(4_000_000 - 100)}</schema>`,
    "a huge reference": `<schema name="s">&#${"9".repeat(MILLION)};</schema>`,
    "a parameter of a billion positions": `<schema name="s"><module name="m"><parameter name="p" length="1000000000"/></module></schema>`,
  };

  test.for(Object.entries(hostile))("%s", ([, markup]) => {
    const { diagnostics } = readSchema("s.pml", { files: mapFiles({ "s.pml": markup }) });
    expect(hasErrors(diagnostics)).toBe(true);
    expect(renderDiagnostics(diagnostics).length).toBeLessThan(1_000_000);
  });

  test("a prompt of unknown names, against a schema with many", () => {
    const modules = Array.from({ length: 2_000 }, (_, i) => `<module name="m${i}">x</module>`).join("");
    const { schema } = parseSchema(`<schema name="s">${modules}</schema>`);
    const { prompt } = parsePrompt(`<prompt schema="s">${Array.from({ length: 50_000 }, (_, i) => `<n${i}/>`).join("")}</prompt>`);
    if (!schema || !prompt) throw new Error("not parsed");
    const { layout } = layoutSchema(schema, { tokenizer: wordTokenizer(), chat });
    expect(layout && compilePrompt(layout, prompt).diagnostics).toHaveLength(1_000);
  });

  test("using markup in spite of errors throws KvspliceError", () => {
    expect(() => throwOnErrors(parseSchema(bomb).diagnostics)).toThrow(KvspliceError);
    expect(() => throwOnErrors(parseSchema(bomb).diagnostics)).toThrow(expect.objectContaining({ code: "bad_markup" }));
  });
});
