import type { TextItem } from "pdfjs-dist/types/src/display/api.js";

/** A typeset line of a page. Lengths are in points (1/72 inch), from the page's lower left corner. */
export type Line = {
  readonly text: string;
  readonly page: number;
  /** Height of its baseline. */
  readonly y: number;
  /** Height of its largest letters. */
  readonly height: number;
};

/** The lines of a page in the file's order, which is almost always the reading order. */
export function linesOf(items: readonly TextItem[], page: number): Line[] {
  const lines: Line[] = [];
  let text = "";
  let y: number | undefined;
  let height = 0;
  const end = () => {
    if (text.trim() !== "" && y !== undefined) lines.push({ text: text.replace(/\s+/g, " ").trim(), page, y, height });
    text = "";
    y = undefined;
    height = 0;
  };
  for (const item of items) {
    if (item.str.trim() !== "") {
      y ??= item.transform[5] as number;
      height = Math.max(height, item.height);
    }
    text += item.str;
    if (item.hasEOL) end();
  }
  end();
  return lines;
}

/** The height of most letters; headings are larger. 0 if there are none. */
export function bodyHeightOf(lines: readonly Line[]): number {
  const letters = new Map<number, number>();
  for (const { text, height } of lines) {
    const key = Math.round(height * 2) / 2;
    letters.set(key, (letters.get(key) ?? 0) + text.length);
  }
  return [...letters].reduce((most, each) => (each[1] > most[1] ? each : most), [0, 0])[0];
}
