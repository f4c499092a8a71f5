import type { Document, LoadProblem } from "../document.js";
import { decodeText } from "./decode.js";
import type { Loader } from "./loader.js";
import { paragraphsOf } from "./text.js";
import { titleLine, titleOfPath } from "./title.js";

/** One JSON object a line: `text`, and `title` where there is one. Other fields are not read. */
export const loadJsonl: Loader = (path, bytes) => {
  const documents: Document[] = [];
  const problems: LoadProblem[] = [];
  decodeText(bytes).split("\n").forEach((content, index) => {
    if (content.trim() === "") return;
    const read = readLine(content);
    if (typeof read === "string") problems.push({ path, line: index + 1, reason: read });
    else documents.push({ path, title: titleLine(read.title) ?? titleOfPath(path), paragraphs: paragraphsOf(read.text) });
  });
  return { documents, problems };
};

/** The line's fields, or what is wrong with it. */
function readLine(content: string): { title?: string; text: string } | string {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    return "The line is not JSON; write one object a line, on one line.";
  }
  if (typeof value !== "object" || value === null) return 'The line is not an object; write {"title": "...", "text": "..."}.';
  const { title, text } = value as { title?: unknown; text?: unknown };
  if (typeof text !== "string" || text.trim() === "") return 'The line has no text; write it as a string under "text".';
  if (title === undefined || title === null) return { text };
  if (typeof title !== "string") return 'The line\'s "title" is not a string; write it as one, or leave it out.';
  return { title, text };
}
