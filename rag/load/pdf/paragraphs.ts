import type { Paragraph } from "../../document.js";
import { withoutFurniture, withoutLeader } from "./furniture.js";
import { bodyHeightOf, type Line } from "./lines.js";
import { Words } from "./words.js";

/** Lines further apart than this many line heights belong to different paragraphs; typeset text has 1.0 to 1.4. */
const PARAGRAPH_GAP = 1.6;

/** A short line in larger letters than most is a heading. */
const HEADING_RATIO = 1.12;
const HEADING_LENGTH = 200;

/** Letters of the same size differ by rounding. */
const SAME_SIZE = 0.6;

/** The text of a PDF's lines: paragraphs and headings, without running heads, page numbers and leader dots. */
export function paragraphsOfLines(lines: readonly Line[]): Paragraph[] {
  const body = bodyHeightOf(lines);
  const words = new Words(lines.map(({ text }) => text));
  const paragraphs: { text: string; page: number; heading: boolean }[] = [];
  let before: Line | undefined;
  let entry = false;
  for (const line of withoutFurniture(lines)) {
    const listed = withoutLeader(line.text);
    const text = listed ?? line.text;
    if (text === "") continue;
    const heading = listed === undefined && isHeading(line, body);
    const last = paragraphs.at(-1);
    if (last === undefined || before === undefined || last.heading !== heading || !continues(before, line, heading)) {
      paragraphs.push({ text, page: line.page, heading });
    } else last.text = entry ? `${last.text}\n${text}` : words.join(last.text, text);
    entry = listed !== undefined;
    before = line;
  }
  return paragraphs.map(({ text, page, heading }) => (heading ? { text, page, heading } : { text, page }));
}

/** The title on a first page: its largest letters, if they are larger than those of the text. */
export function titleOfFirstPage(lines: readonly Line[]): string | undefined {
  const [first] = lines;
  const body = bodyHeightOf(lines);
  const headings = lines.filter((line) => line.page === first!.page && isHeading(line, body));
  if (headings.length === 0) return undefined;
  const largest = Math.max(...headings.map(({ height }) => height));
  const start = headings.findIndex(({ height }) => largest - height < SAME_SIZE);
  let end = start + 1;
  while (end < headings.length && continues(headings[end - 1]!, headings[end]!, true)) end++;
  return headings
    .slice(start, end)
    .map(({ text }) => text)
    .join(" ");
}

function isHeading({ text, height }: Line, body: number): boolean {
  return body > 0 && height >= HEADING_RATIO * body && text.length <= HEADING_LENGTH && /\p{L}/u.test(text);
}

function continues(before: Line, line: Line, heading: boolean): boolean {
  if (before.page !== line.page || Math.abs(before.y - line.y) > PARAGRAPH_GAP * Math.max(line.height, 1)) return false;
  return !heading || Math.abs(before.height - line.height) < SAME_SIZE;
}
