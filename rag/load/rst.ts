import type { Paragraph } from "../document.js";
import { decodeText } from "./decode.js";
import type { Loader } from "./loader.js";
import { paragraphsOf } from "./text.js";
import { titleLine, titleOfPath } from "./title.js";

/** A line of one punctuation mark, above or below a title. */
const RULE = /^([!-/:-@[-`{-~])\1{2,}[^\S\n]*$/;

/** Comments, targets and substitutions, which readers do not see. */
const UNSEEN = /^\s*\.\. (?:_[^\n]*:|\[#?[\w*]*\]|\|[^|\n]+\|)[^\n]*$|^\s*\.\.\s*$/;

/** `.. note:: Words` has text; `.. code-block:: python` has none. */
const DIRECTIVE = /^(\s*)\.\. ([\w:-]+)::[^\S\n]*(.*)$/;
const SPOKEN = new Set([
  "note",
  "warning",
  "tip",
  "important",
  "caution",
  "danger",
  "hint",
  "attention",
  "seealso",
  "admonition",
  "topic",
  "rubric",
  "deprecated",
  "versionadded",
  "versionchanged",
]);

const OPTION = /^\s+:[\w-]+:(?:\s.*)?$/;

/** reStructuredText: headings by their lines of punctuation, without the markup of directives, roles and links. */
export const loadRst: Loader = (path, bytes) => {
  const paragraphs = paragraphsOf(decodeText(bytes)).flatMap(({ text }) => paragraphsOfBlock(text.split(/\r?\n/)));
  const title = titleLine(paragraphs.find(({ heading }) => heading)?.text);
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};

/** Paragraphs of the lines between two empty ones. */
function paragraphsOfBlock(lines: readonly string[]): Paragraph[] {
  const paragraphs: Paragraph[] = [];
  let body: string[] = [];
  let inDirective = false;
  const endBody = () => {
    const text = body.join("\n").trimEnd();
    if (text.trim() !== "") paragraphs.push({ text });
    body = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    const next = lines[at + 1];
    if (RULE.test(line) && !(next !== undefined && RULE.test(next))) continue;
    if (next !== undefined && RULE.test(next) && /\S/.test(line) && next.trim().length >= line.trim().length - 1) {
      endBody();
      paragraphs.push({ text: plain(line).trim(), heading: true });
      continue;
    }
    const directive = DIRECTIVE.exec(line);
    if (directive) {
      inDirective = true;
      const [, indent, name, argument] = directive as unknown as [string, string, string, string];
      if (SPOKEN.has(name) && argument !== "") body.push(indent + plain(argument));
    } else if (!UNSEEN.test(line) && !(inDirective && OPTION.test(line))) body.push(plain(line));
  }
  endBody();
  return paragraphs;
}

/** A line without markup: ``:ref:`words <target>` ``, `` `words`_ `` and ``` ``words`` ``` become the words. */
function plain(line: string): string {
  return line
    .replace(/:[\w:+.-]+:`([^`]*)`/g, "`$1`")
    .replace(/`([^`<]+?)\s*<[^`>]*>`_{0,2}/g, "$1")
    .replace(/``([^`]+)``/g, "$1")
    .replace(/`([^`]+)`_{0,2}/g, "$1")
    .replace(/\*\*(\S(?:[^*]*\S)?)\*\*/g, "$1")
    .replace(/::$/, ":");
}
