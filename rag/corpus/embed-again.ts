import { KvspliceError } from "../../plan/index.js";
import type { Embedder } from "../embed/embedder.js";
import { embeddedText } from "./precompute.js";
import { CorpusRecords } from "./records.js";

/** Options for replacing a corpus's vectors. */
export type EmbedAgainOptions = {
  /** The name by which `loadEmbedder` loads the embedder: the corpus stores it. Not stored by default. */
  readonly embedderName?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after every few chunks. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
};

/** Chunks embedded at a time. */
const BATCH = 64;

/**
 * Replaces the vectors of a corpus's chunks with another embedder's. Their blocks stay: nothing is encoded. The corpus changes
 * all at once when everything is embedded; an interrupted run changes nothing.
 *
 * @returns number of chunks embedded; 0 if the corpus already has this embedder
 * @throws KvspliceError `bad_store` if there is no corpus or it was changed meanwhile; `cancelled`
 */
export async function embedCorpusAgain(
  dir: string,
  embedder: Embedder,
  { embedderName, signal, onProgress }: EmbedAgainOptions = {},
): Promise<number> {
  const records = await CorpusRecords.open(dir, undefined, false);
  try {
    if (records.writer.embedder === embedder.id) return 0;
    const { generation } = records;
    const ids = records.chunkIds();
    const vectors = new Map<number, Float32Array>();
    for (let start = 0; start < ids.length; start += BATCH) {
      const batch = ids.slice(start, start + BATCH).flatMap((id) => {
        const chunk = records.chunk(id);
        return chunk === undefined ? [] : [{ id, text: embeddedText(chunk) }];
      });
      const made = await embedder.embed(
        batch.map(({ text }) => text),
        { as: "document", signal },
      );
      batch.forEach(({ id }, index) => vectors.set(id, made[index]!));
      onProgress?.(Math.min(start + BATCH, ids.length), ids.length);
    }
    if (!records.embedAgain({ embedder: embedder.id, embedderName }, vectors, generation)) {
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} was changed while it was being embedded again, so nothing was replaced; run again.`,
      );
    }
    return ids.length;
  } finally {
    await records.close();
  }
}
