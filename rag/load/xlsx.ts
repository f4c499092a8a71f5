import type { Document } from "../document.js";
import { Archive } from "./archive.js";
import type { Loader } from "./loader.js";
import { tableParagraphs } from "./table.js";
import { titleOfPath } from "./title.js";

/** A spreadsheet: each sheet is a document whose first row has the column names. Formulas are read as their values. */
export const loadXlsx: Loader = async (path, bytes) => {
  await (await Archive.open(bytes)).check();
  const { default: readXlsxFile } = await import("read-excel-file/node");
  const sheets = await readXlsxFile(Buffer.from(bytes));
  const documents = sheets.map(({ sheet, data }): Document => {
    const [columns, ...rows] = data.map((row) => row.map(cellText));
    const name = sheets.length === 1 ? titleOfPath(path) : `${titleOfPath(path)}: ${sheet}`;
    return { path, title: name, paragraphs: tableParagraphs(columns, rows) };
  });
  return { documents, problems: [] };
};

/** A date at midnight is written without the time. */
function cellText(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (!(value instanceof Date)) return String(value);
  return value
    .toISOString()
    .replace(/T00:00:00\.000Z$/, "")
    .replace(/\.000Z$/, "Z");
}
