import { parse } from "csv-parse/sync";

import { decodeText } from "./decode.js";
import { type Loader, UnreadableFileError } from "./loader.js";
import { RecordList, readRecord } from "./records.js";
import { tableParagraphs } from "./table.js";
import { titleOfPath } from "./title.js";

const DELIMITERS = [",", ";", "\t", "|"];

/** Lines used to detect the delimiter. */
const SAMPLE_LINES = 20;

/** Comma- (or semicolon-, tab-) separated values: rows with their column names, or one document per row if a column is "text". */
export const loadCsv: Loader = (path, bytes) => {
  const text = decodeText(bytes);
  const [columns = [], ...rows] = rowsOf(text, delimiterOf(text));
  const names = columns.map((name) => name.trim().toLowerCase());
  if (!names.includes("text"))
    return { documents: [{ path, title: titleOfPath(path), paragraphs: tableParagraphs(columns, rows) }], problems: [] };
  const list = new RecordList(path, "row");
  rows.forEach((row, index) => list.add(readRecord(Object.fromEntries(names.map((name, column) => [name, row[column]]))), index + 1));
  return list;
};

function rowsOf(text: string, delimiter: string): string[][] {
  try {
    return parse(text, { delimiter, bom: true, relax_column_count: true, relax_quotes: true, skip_empty_lines: true });
  } catch (error) {
    throw new UnreadableFileError(`It is not CSV (${(error as Error).message}); correct it, or name it .txt.`);
  }
}

/** The delimiter with the highest minimum number of occurrences per line. */
function delimiterOf(text: string): string {
  const lines = text.split("\n", SAMPLE_LINES).filter((line) => line.trim() !== "");
  const least = (delimiter: string) => Math.min(...lines.map((line) => line.split(delimiter).length));
  return DELIMITERS.reduce((best, delimiter) => (least(delimiter) > least(best) ? delimiter : best));
}
