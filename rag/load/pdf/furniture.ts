import type { Line } from "./lines.js";

/** Lines at a page's top and bottom that may be running heads, footers and page numbers. */
const EDGE_LINES = 3;

/** They are further from the text than its lines are from each other, by this many line heights. */
const EDGE_GAP = 1.5;

/** A line at the same height on this many pages is not part of the text; a lone number on two pages. */
const REPEATS = 3;
const NUMBER_REPEATS = 2;

/** Heights of the same kind of head differ by rounding. */
const SAME_HEIGHT_PT = 4;

const NUMBER = /^(?:page |p\. ?)?[-–—[(\s]*(?:\d{1,4}|[ivxlcdm]{1,7})[-–—\])\s]*(?:(?:of|\/) ?\d{1,4})?$/i;

/** A line that begins or ends with its page number, like others on their pages. */
const NUMBERED = /^(\d{1,4})\s|\s(\d{1,4})$/;
const NUMBERED_LENGTH = 120;

/** Dots (or lines) that lead to the page number of a table of contents, and the number. */
const LEADER = /\s*(?:(?:[.·•…‥_]\s*){4,}(?:[A-Z]?-?\d{1,4}|[ivxlcdm]{1,7})?|(?:\s\.){2,}\s+\d{1,4})$/i;

/** Longest line of a table of contents. */
const LONGEST_ENTRY = 1000;
const ONLY_DOTS = /^[\s.·•…‥_]*$/;

/** The lines without those that repeat from page to page. */
export function withoutFurniture(lines: readonly Line[]): Line[] {
  const edges = edgesOf(lines);
  const pages = new Map<string, Set<number>>();
  for (const line of edges) {
    for (const key of keysOf(line)) pages.set(key, (pages.get(key) ?? new Set()).add(line.page));
  }
  const first = firstPageOf(edges);
  return lines.filter((line) => {
    if (!edges.has(line)) return true;
    if (first !== undefined && offsetsOf(line).includes(first)) return false;
    const repeats = Math.max(...keysOf(line).map((key) => pages.get(key)?.size ?? 0));
    return repeats < (NUMBER.test(line.text) ? NUMBER_REPEATS : REPEATS);
  });
}

/** Difference between a page's printed number and its place in the file; undefined if pages are not numbered. */
function firstPageOf(edges: Iterable<Line>): number | undefined {
  const pages = new Map<number, Set<number>>();
  for (const line of edges) for (const offset of offsetsOf(line)) pages.set(offset, (pages.get(offset) ?? new Set()).add(line.page));
  const [[offset, some] = [0, new Set()]] = [...pages].sort((a, b) => b[1].size - a[1].size);
  return some.size >= REPEATS ? offset : undefined;
}

function offsetsOf({ text, page }: Line): number[] {
  if (text.length > NUMBERED_LENGTH) return [];
  const [, start, end] = NUMBERED.exec(text) ?? [];
  return [start, end].flatMap((number) => (number === undefined ? [] : [Number(number) - page]));
}

function edgesOf(lines: readonly Line[]): Set<Line> {
  const pages = new Map<number, Line[]>();
  for (const line of lines) {
    const page = pages.get(line.page);
    if (page) page.push(line);
    else pages.set(line.page, [line]);
  }
  return new Set(
    Array.from(pages.values(), (page) => [...edgeOf(page.sort((a, b) => b.y - a.y)), ...edgeOf(page.sort((a, b) => a.y - b.y))]).flat(),
  );
}

/** The first few lines, if a gap separates them from the rest: lines of the text itself may repeat too. */
function edgeOf(lines: readonly Line[]): readonly Line[] {
  for (let count = Math.min(EDGE_LINES, Math.max(1, Math.floor(lines.length / 2))); count > 0; count--) {
    const [last, next] = [lines[count - 1]!, lines[count]];
    if (next === undefined || Math.abs(last.y - next.y) > EDGE_GAP * Math.max(last.height, next.height)) return lines.slice(0, count);
  }
  return [];
}

/** What lines of the same kind share: their words without numbers, and their height, rounded to either of two grids. */
function keysOf({ text, y }: Line): string[] {
  const words = text.replace(/\d+/g, "#").replace(/\b[ivxlcdm]+\b/g, "#");
  return [0, 0.5].map((shift) => `${shift} ${Math.floor(y / (2 * SAME_HEIGHT_PT) + shift)} ${words}`);
}

/** A line of a table of contents without its dots and page number; undefined if it has none. */
export function withoutLeader(text: string): string | undefined {
  if (text.length > LONGEST_ENTRY) return undefined;
  const entry = text.replace(LEADER, "");
  return entry === text ? undefined : ONLY_DOTS.test(entry) ? "" : entry;
}
