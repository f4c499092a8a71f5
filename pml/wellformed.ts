import type { Report } from "./diagnostic.js";
import { reportEntities } from "./entity.js";
import { MAX_DEPTH, MAX_ELEMENTS } from "./grammar.js";
import type { SourceText, Span } from "./source.js";

/**
 * XML's own rules, with every violation reported in one run and at its position: fast-xml-parser's validator stops at the
 * first, and its parser enforces none. Document types are refused: nothing in PML needs one, and entity bombs depend on them.
 */

const OR_CDATA = ", or put the text into a CDATA section: `<![CDATA[` ... `]]>`";

const XML_DECLARATION = /^<\?xml(?:[ \t\n][^?<>]*)?\?>/;
const FORBIDDEN_CHARACTER = /[\0-\x08\x0B\x0C\x0E-\x1F\uFFFE\uFFFF\p{Surrogate}]/gu;
const NAME_START = /[A-Za-z_:\u00C0-\uFFFF]/;
const TAG_NAME = /[^ \t\n<>/="'&]+/y;
const ATTRIBUTE_NAME = TAG_NAME;
const UNQUOTED_VALUE = /[^ \t\n<>"']+/y;
const SPACES = /[ \t\n]*/y;

/** Length of the XML declaration; 0 without one. */
export function declarationLength(text: string): number {
  return XML_DECLARATION.exec(text)?.[0].length ?? 0;
}

/** Whether the tags nest: otherwise no tree can be built. Other violations are reported and leave the tree intact. */
export function checkXml(source: SourceText, report: Report): boolean {
  const { text } = source;
  let elements = 0;
  const open: Span[] = [];
  let nests = true;
  let roots = 0;

  const span = (start: number, end: number): Span => ({ source, start, end });
  const breach = (code: Parameters<Report>[0], message: string, at: Span) => {
    nests = false;
    report(code, message, at);
  };

  for (const match of text.matchAll(FORBIDDEN_CHARACTER)) {
    const codePoint = match[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
    report("bad-encoding", `the character U+${codePoint} is not allowed in XML; remove it`, span(match.index, match.index + 1));
  }

  let at = declarationLength(text);
  while (at < text.length) {
    if (text[at] !== "<") {
      const end = indexOrEnd(text, "<", at);
      const written = span(at, end);
      if (open.length > 0) reportEntities(written, report, OR_CDATA);
      else reportOutside(written, report);
      at = end;
    } else if (text.startsWith("<!--", at)) {
      const end = text.indexOf("-->", at + 4);
      if (end === -1) {
        breach("unclosed-element", "this comment is never closed; end it with `-->`", span(at, at + 4));
        return false;
      }
      const dashes = text.slice(at + 4, end + 1).indexOf("--");
      if (dashes !== -1) report("bad-xml", "`--` is not allowed in a comment", span(at + 4 + dashes, at + 6 + dashes));
      at = end + 3;
    } else if (text.startsWith("<![CDATA[", at)) {
      const end = text.indexOf("]]>", at + 9);
      if (end === -1) {
        breach("unclosed-element", "this CDATA section is never closed; end it with `]]>`", span(at, at + 9));
        return false;
      }
      if (open.length === 0) breach("bad-xml", "text is only allowed within an element", span(at, at + 9));
      at = end + 3;
    } else if (text.startsWith("<!DOCTYPE", at)) {
      breach("doctype", "PML has no document types; write the text itself instead of an entity", span(at, at + 9));
      return false;
    } else if (text.startsWith("<?", at)) {
      breach("bad-xml", "PML has no processing instructions; an XML declaration is only allowed at the very start", span(at, at + 2));
      const end = text.indexOf("?>", at);
      if (end === -1) return false;
      at = end + 2;
    } else if (text.startsWith("</", at)) {
      const nameEnd = endOf(TAG_NAME, text, at + 2);
      const end = endOf(SPACES, text, nameEnd);
      if (nameEnd === at + 2 || text[end] !== ">") {
        breach("bad-xml", "this closing tag is incomplete; write `</name>`", span(at, Math.max(end, at + 2)));
        at = Math.max(end, at + 2);
        continue;
      }
      closeElement(span(at + 2, nameEnd));
      at = end + 1;
    } else if (NAME_START.test(text[at + 1] ?? "")) {
      const tag = scanTag(at);
      if (!tag) return false;
      if (++elements > MAX_ELEMENTS) {
        breach("too-large", `a file may have at most ${MAX_ELEMENTS} elements; split it and import the parts`, tag.name);
        return false;
      }
      if (open.length === 0 && ++roots > 1) {
        breach("bad-xml", "a file has one root element; put this one into a separate file", tag.name);
      }
      if (!tag.closed) open.push(tag.name);
      if (open.length > MAX_DEPTH) {
        breach("too-deep", `elements may be nested at most ${MAX_DEPTH} deep`, tag.name);
        return false;
      }
      at = tag.end;
    } else {
      breach("bad-xml", `\`<\` begins a tag; write \`&lt;\` for the character${OR_CDATA}`, span(at, at + 1));
      at++;
    }
  }
  for (const name of open) breach("unclosed-element", `\`<${nameOf(name)}>\` is never closed`, name);
  if (nests && roots === 0) breach("bad-xml", "this file has no element", span(0, 0));
  return nests;

  function closeElement(name: Span): void {
    const written = nameOf(name);
    const opened = open.findLastIndex((candidate) => nameOf(candidate) === written);
    if (opened === -1) {
      const innermost = open.at(-1);
      const meant = innermost ? `; the open element is \`<${nameOf(innermost)}>\`` : "";
      breach("unopened-element", `\`</${written}>\` closes an element that was never opened${meant}`, name);
      return;
    }
    for (const unclosed of open.splice(opened).slice(1)) {
      breach("unclosed-element", `\`<${nameOf(unclosed)}>\` is not closed before \`</${written}>\``, unclosed);
    }
  }

  /** Undefined if its end cannot be found. */
  function scanTag(start: number): { readonly name: Span; readonly end: number; readonly closed: boolean } | undefined {
    const name = span(start + 1, endOf(TAG_NAME, text, start + 1));
    const given = new Set<string>();
    let at = name.end;
    for (;;) {
      const next = endOf(SPACES, text, at);
      const apart = next > at;
      at = next;
      if (text[at] === ">") return { name, end: at + 1, closed: false };
      if (text.startsWith("/>", at)) return { name, end: at + 2, closed: true };
      if (at >= text.length || text[at] === "<") {
        breach("unclosed-element", `the tag \`<${nameOf(name)}\` is never closed; end it with \`>\` or \`/>\``, name);
        return undefined;
      }
      const attribute = span(at, endOf(ATTRIBUTE_NAME, text, at));
      const written = nameOf(attribute);
      if (written === "") {
        breach("bad-attribute", `\`${text[at]}\` is not expected in a tag`, span(at, at + 1));
        at++;
        continue;
      }
      const equals = endOf(SPACES, text, attribute.end);
      if (text[equals] !== "=") {
        breach("bad-attribute", `the attribute \`${written}\` has no value; write \`${written}="..."\``, attribute);
        at = attribute.end;
        continue;
      }
      const quoteAt = endOf(SPACES, text, equals + 1);
      const quote = text[quoteAt];
      if (quote !== '"' && quote !== "'") {
        breach("bad-attribute", `the value of \`${written}\` needs quotes: \`${written}="..."\``, attribute);
        at = endOf(UNQUOTED_VALUE, text, quoteAt);
        continue;
      }
      const end = text.indexOf(quote, quoteAt + 1);
      if (end === -1) {
        breach("bad-attribute", `the quote of \`${written}\` is never closed`, span(quoteAt, quoteAt + 1));
        return undefined;
      }
      const value = span(quoteAt + 1, end);
      if (!apart) report("bad-attribute", `a space is missing before \`${written}\``, attribute);
      const lessThan = text.slice(value.start, value.end).indexOf("<");
      if (lessThan !== -1) {
        const place = span(value.start + lessThan, value.start + lessThan + 1);
        report("bad-attribute", "`<` is not allowed in a value; write `&lt;`, or close the quote before it", place);
      }
      reportEntities(value, report);
      if (given.has(written)) report("duplicate-attribute", `\`${written}\` is given twice`, attribute);
      given.add(written);
      at = end + 1;
    }
  }
}

function reportOutside(written: Span, report: Report): void {
  const inner = written.source.text.slice(written.start, written.end);
  const first = inner.search(/[^ \t\n]/);
  if (first === -1) return;
  const start = written.start + first;
  report("bad-xml", "text is only allowed within an element", { ...written, start, end: start + inner.trim().length });
}

function nameOf({ source, start, end }: Span): string {
  return source.text.slice(start, end);
}

function endOf(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : at;
}

function indexOrEnd(text: string, search: string, from: number): number {
  const index = text.indexOf(search, from);
  return index === -1 ? text.length : index;
}
