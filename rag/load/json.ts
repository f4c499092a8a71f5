import { basename } from "node:path";

import { decodeText } from "./decode.js";
import { type Loaded, type Loader, UnreadableFileError } from "./loader.js";
import { RecordList, readRecord } from "./records.js";
import { paragraphsOf } from "./text.js";

/** One JSON object per line: `text` and an optional `title`. An array of such objects is accepted as well. */
export const loadJsonl: Loader = (path, bytes) => {
  const text = decodeText(bytes);
  const array = text.trimStart().startsWith("[") ? parsed(text) : undefined;
  if (Array.isArray(array)) return recordsOf(path, array);
  const list = new RecordList(path, "line");
  text.split("\n").forEach((content, index) => {
    if (content.trim() === "") return;
    const value = parsed(content);
    list.add(value === undefined ? "The line is not JSON; write one object per line." : readRecord(value), index + 1);
  });
  return list;
};

/** Each object with a text in an array is a document; other JSON is text, reformatted if it is on one line. */
export const loadJson: Loader = (path, bytes) => {
  const text = decodeText(bytes);
  const value = parsed(text);
  if (value === undefined) throw new UnreadableFileError("It is not JSON; correct it, or name it .jsonl if each line is an object.");
  if (Array.isArray(value) && value.some((item) => typeof readRecord(item) !== "string")) return recordsOf(path, value);
  const lines = text.includes("\n") ? text : JSON.stringify(value, null, 1);
  return { documents: [{ path, title: basename(path), paragraphs: paragraphsOf(lines) }], problems: [] };
};

function recordsOf(path: string, values: readonly unknown[]): Loaded {
  const list = new RecordList(path, "item");
  values.forEach((value, index) => list.add(readRecord(value), index + 1));
  return list;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
