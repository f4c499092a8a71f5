import { basename } from "node:path";

import { decodeText } from "./decode.js";
import { type Loaded, type Loader, Unloadable } from "./loader.js";
import { readRecord, RecordList } from "./records.js";
import { paragraphsOf } from "./text.js";

/** One JSON object a line: `text`, and `title` where there is one. An array of such objects is read as well. */
export const loadJsonl: Loader = (path, bytes) => {
  const text = decodeText(bytes);
  const array = text.trimStart().startsWith("[") ? parsed(text) : undefined;
  if (Array.isArray(array)) return recordsOf(path, array);
  const list = new RecordList(path, "line");
  text.split("\n").forEach((content, index) => {
    if (content.trim() === "") return;
    const value = parsed(content);
    list.add(value === undefined ? "The line is not JSON; write one object a line, on one line." : readRecord(value), index + 1);
  });
  return list;
};

/** An array of objects with texts holds a document each; other JSON is text, laid out anew where it stands on one line. */
export const loadJson: Loader = (path, bytes) => {
  const text = decodeText(bytes);
  const value = parsed(text);
  if (value === undefined) throw new Unloadable("It is not JSON; correct it, or name it .jsonl where each line is an object of its own.");
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
