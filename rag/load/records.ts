import type { Document, LoadProblem } from "../document.js";
import { type Fields, fieldsOf } from "../fields.js";
import { paragraphsOf } from "./text.js";
import { titleLine, titleOfPath } from "./title.js";

/** The document in a record of JSON or CSV, or what is wrong with it. */
export type RecordRead = { readonly title?: string; readonly text: string; readonly fields: Fields } | string;

/** A value with a string under "text" and optionally under "title". All other values, and those in its "metadata", are its fields. */
export function readRecord(value: unknown): RecordRead {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return 'It is not an object; write {"title": "...", "text": "..."}.';
  const { title, text, metadata, ...others } = value as { title?: unknown; text?: unknown; metadata?: unknown };
  if (typeof text !== "string" || text.trim() === "") return 'It has no text; write it as a string under "text".';
  const fields = {
    ...(typeof metadata === "object" && metadata !== null && !Array.isArray(metadata) && fieldsOf(metadata)),
    ...fieldsOf(others),
  };
  if (title === undefined || title === null) return { text, fields };
  if (typeof title !== "string") return 'Its "title" is not a string; write it as one, or leave it out.';
  return { title, text, fields };
}

/** Collects a file's records. A problem shared by many of them is reported once. */
export class RecordList {
  readonly documents: Document[] = [];
  private readonly wrong = new Map<string, { readonly number: number; count: number }>();

  constructor(
    private readonly path: string,
    /** What contains one record. */
    private readonly holder: "line" | "row" | "item",
  ) {}

  /** @param number of the line, row or item, from 1 */
  add(read: RecordRead, number: number): void {
    if (typeof read !== "string") {
      this.documents.push({
        path: this.path,
        title: titleLine(read.title) ?? titleOfPath(this.path),
        paragraphs: paragraphsOf(read.text),
        fields: read.fields,
      });
      return;
    }
    const known = this.wrong.get(read);
    if (known) known.count++;
    else this.wrong.set(read, { number, count: 1 });
  }

  get problems(): LoadProblem[] {
    const { path, holder } = this;
    return Array.from(this.wrong, ([reason, { number, count }]) => {
      const others = count === 1 ? "" : ` (The same for ${count - 1} more ${holder}${count === 2 ? "" : "s"}.)`;
      if (holder === "line") return { path, line: number, reason: `${reason}${others}` };
      return { path, reason: `In ${holder} ${number}: ${reason}${others}` };
    });
  }
}
