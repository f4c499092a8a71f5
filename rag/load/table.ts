import type { Paragraph } from "../document.js";

const BETWEEN_CELLS = " | ";

/**
 * A table's rows as separate paragraphs, each with the column names if known. Empty rows are left out,
 * and a single word above a table is not a column name.
 */
export function tableParagraphs(columns: readonly string[] | undefined, rows: readonly (readonly string[])[]): Paragraph[] {
  if (columns !== undefined && columns.filter((name) => name.trim() !== "").length < 2)
    return tableParagraphs(undefined, [columns, ...rows]);
  const names = columns === undefined ? "" : rowText(columns);
  const written = rows.map((row) => rowText(row)).filter((text) => text !== "");
  if (names === "") return written.map((text) => ({ text }));
  return written.length === 0 ? [{ text: names }] : written.map((text) => ({ text, columns: names }));
}

/** Drops empty cells at the end; those between others keep the columns in place. */
export function rowText(cells: readonly string[]): string {
  const texts = cells.map((cell) => cell.replace(/\s+/g, " ").trim());
  while (texts.at(-1) === "") texts.pop();
  return texts.every((text) => text === "") ? "" : texts.join(BETWEEN_CELLS);
}
