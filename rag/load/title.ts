import { basename, extname } from "node:path";

/** One line of text, or undefined if it is blank. */
export function titleLine(text: string | undefined): string | undefined {
  const line = text?.replace(/\s+/g, " ").trim();
  return line === "" ? undefined : line;
}

/** `/a/old-town_hall.txt` -> `old town hall` */
export function titleOfPath(path: string): string {
  const stem = basename(path, extname(path));
  return titleLine(stem.replace(/[-_]+/g, " ")) ?? stem;
}
