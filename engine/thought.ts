import type { ChatTemplate } from "../plan/index.js";

/**
 * A complete or partial answer without what the model thought before it. White space between the two is removed too. Empty
 * while the text may still turn out to begin a thought.
 */
export function withoutThought(text: string, { begin, end, begun }: NonNullable<ChatTemplate["thought"]>): string {
  const start = text.trimStart();
  if (!begun) {
    if (start !== "" && !start.startsWith(begin) && !begin.startsWith(start)) return text;
    if (!start.startsWith(begin)) return "";
  }
  const ended = text.indexOf(end);
  return ended < 0 ? "" : text.slice(ended + end.length).trimStart();
}
