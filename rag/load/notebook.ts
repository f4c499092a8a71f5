import { z } from "zod";

import type { Paragraph } from "../document.js";
import { decodeText } from "./decode.js";
import { type Loader, UnreadableFileError } from "./loader.js";
import { markdownParagraphs } from "./markdown.js";
import { paragraphsOf } from "./text.js";
import { titleLine, titleOfPath } from "./title.js";

/** nbformat 4: text is a string or a list of lines. */
const Text = z.union([z.string(), z.array(z.string()).transform((lines) => lines.join(""))]);
const Output = z.object({ text: Text.optional(), data: z.object({ "text/plain": Text.optional() }).optional() });
const Notebook = z.object({
  cells: z.array(z.object({ cell_type: z.string(), source: Text, outputs: z.array(Output).optional() })),
});

/** A Jupyter notebook: its text, its code and the code's output, without pictures. */
export const loadNotebook: Loader = (path, bytes) => {
  const { success, data } = Notebook.safeParse(jsonOf(decodeText(bytes)));
  if (!success)
    throw new UnreadableFileError(
      "It is not a Jupyter notebook of version 4; save it again, for example with: jupyter nbconvert --to notebook",
    );
  const paragraphs = data.cells.flatMap(({ cell_type, source, outputs = [] }): Paragraph[] => {
    if (cell_type === "markdown") return markdownParagraphs(source);
    return [source, ...outputs.map(({ text, data }) => text ?? data?.["text/plain"] ?? "")].flatMap(paragraphsOf);
  });
  const title = titleLine(paragraphs.find(({ heading }) => heading)?.text);
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
