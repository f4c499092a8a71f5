import fc from "fast-check";
import { expect, test } from "vitest";
import { completionsAt, draftOf, parseMarkup } from "../../pml/index.js";
import { mendMarkup } from "../../pml/mend.js";

const bit = fc.constantFrom("<schema>", `<prompt schema="s">`, "<module name='m'>", "</module>", "</schema>", "<union>", "<a/>", "< ", "&", "&lt;", "text\n", "<!-- c -->", "<!--", "<![CDATA[", "]]>", `<b c="`, `"`, ">", "</", "<d e=f");
const broken = fc.array(bit, { maxLength: 12 }).map((bits) => bits.join(""));

/** What makes a tree impossible. */
const STRUCTURE = ["unclosed-element", "unopened-element"];

test("any text is mended to markup whose tags nest, and its own characters stay where they were", () => {
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

test("markup that is right is left as it is", () => {
  const text = `<schema name="s"><!-- < --><module name="m">a &lt; b <![CDATA[</module>]]></module></schema>`;
  expect(mendMarkup(text).text).toBe(text);
});
