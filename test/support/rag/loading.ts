import { expect } from "vitest";

import { type LoadOptions, loadFile } from "../../../rag/index.js";

export const load = (path: string, content: string | Uint8Array, options?: LoadOptions) =>
  loadFile(path, typeof content === "string" ? Buffer.from(content) : content, options);

/** The one document of a file without problems. */
export async function only(path: string, content: string | Uint8Array, options?: LoadOptions) {
  const { documents, problems } = await load(path, content, options);
  expect(problems).toEqual([]);
  expect(documents).toHaveLength(1);
  const { title, paragraphs } = documents[0]!;
  return {
    title,
    paragraphs,
    texts: paragraphs.map(({ text }) => text),
    headings: paragraphs.filter(({ heading }) => heading).map(({ text }) => text),
  };
}

/** Why a file has no document. */
export async function reasonOf(path: string, content: string | Uint8Array): Promise<string> {
  const { documents, problems } = await load(path, content);
  expect(documents).toEqual([]);
  expect(problems).toHaveLength(1);
  expect(problems[0]!.path).toBe(path);
  return problems[0]!.reason;
}
