import type { Model } from "../engine/index.js";
import type { Documents } from "../pml/index.js";
import { Chunks, openCorpus } from "../rag/index.js";

type Given = {
  readonly corpus?: string;
  /** The model that will read their KV states, which must be the corpus's. Omitted if tokens are only counted. */
  readonly model?: Model;
};

/** The documents of a corpus for one command; undefined if no folder is given. */
export async function withDocuments<T>({ corpus, model }: Given, use: (documents: Documents | undefined) => Promise<T>): Promise<T> {
  if (corpus === undefined) return use(undefined);
  const opened = model ? await openCorpus(corpus, { model }) : await Chunks.open(corpus);
  try {
    return await use(opened.blockOf);
  } finally {
    await opened.close();
  }
}
