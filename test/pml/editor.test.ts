import fc from "fast-check";
import { expect, describe as suite, test } from "vitest";
import { completionsAt, draftOf, parseMarkup } from "../../pml/index.js";
import { mendMarkup } from "../../pml/mend.js";

const bit = fc.constantFrom(
  "<schema>",
  `<prompt schema="s">`,
  "<module name='m'>",
  "</module>",
  "</schema>",
  "<union>",
  "<a/>",
  "< ",
  "&",
  "&lt;",
  "text\n",
  "<!-- c -->",
  "<!--",
  "<![CDATA[",
  "]]>",
  `<b c="`,
  `"`,
  ">",
  "</",
  "<d e=f",
);
const broken = fc.array(bit, { maxLength: 12 }).map((bits) => bits.join(""));

/** The errors that make a tree impossible. */
const STRUCTURE = ["unclosed-element", "unopened-element"];

test("any text is repaired to markup whose tags nest, and its own characters stay where they were", () => {
  fc.assert(
    fc.property(broken, (text) => {
      const mended = mendMarkup(text);
      expect(parseMarkup(mended.text).diagnostics.filter(({ code }) => STRUCTURE.includes(code))).toEqual([]);
      for (let at = 0; at < text.length; at++) {
        const there = mended.toMended(at + 1) - 1;
        expect([text[at], " "]).toContain(mended.text[there]);
        expect(mended.toWritten(there)).toBe(at);
      }
      draftOf(text, "f.pml");
      completionsAt(text, Math.floor(text.length / 2), new Map());
    }),
    { numRuns: 500 },
  );
});

test("valid markup is left as it is", () => {
  const text = `<schema name="s"><!-- < --><module name="m">a &lt; b <![CDATA[</module>]]></module></schema>`;
  expect(mendMarkup(text).text).toBe(text);
});

suite("completion", () => {
  const markup = `<schema name="shop"><variable name="customer"/><variable name="premium" type="boolean" default="true"/><module name="gift" if="premium">A</module></schema>`;
  const schema = parseMarkup(markup).schema!;
  const at = (text: string) =>
    completionsAt(text.replace("|", ""), text.indexOf("|"), new Map([["shop", schema]])).map(({ label, detail }) => `${label}: ${detail}`);

  test("offers the schema's variables in a prompt element", () => {
    expect(at(`<prompt schema="shop" |`)).toEqual(
      expect.arrayContaining(["customer: variable, text", "premium: variable, boolean, `true` by default"]),
    );
    expect(at(`<prompt schema="shop" customer="A" |`)).not.toContainEqual(expect.stringContaining("customer"));
  });

  test("offers variable names in conditions and parameters, and the allowed values of other attributes", () => {
    expect(at(`<schema name="shop"><module name="m" if="|`)).toEqual(["customer: variable", "premium: variable"]);
    expect(at(`<schema name="new"><variable name="v"/><module name="m" if="|`)).toEqual(["v: variable"]);
    expect(at(`<schema name="new"><module name="a">A</module><module name="b">B</module><scaffold name="ab" modules="a |`)).toEqual([
      "b: module",
    ]);
    expect(at(`<prompt schema="shop"><user wrap="|`)).toEqual(["soft: `wrap`", "hard: `wrap`"]);
    expect(at(`<schema name="shop"><parameter variable="|`)).toEqual(["customer: variable", "premium: variable"]);
    expect(at(`<schema name="shop" context="|`)).toEqual(["none: `context`", "before: `context`", "all: `context`"]);
    expect(at(`<schema name="shop"><variable name="v" type="|`)).toContain("boolean: `type`");
    expect(at(`<schema name="shop"><module name="m"><parameter name="v" type="|`)).not.toContain("boolean: `type`");
  });
});
