import type { Model, Precision } from "../engine/index.js";
import { openCorpus, type Corpus } from "../rag/index.js";
import { withInterrupt } from "./interrupt.js";
import { withModel } from "./model.js";
import { precisionOf } from "./precision.js";
import { openStore } from "./store.js";

export type OpenOptions = { readonly store: string; readonly model?: string; readonly precision?: Precision; readonly create: boolean };

/** Opens the corpus of a store folder with its model for one command, and closes all of it afterwards. */
export async function withCorpus(options: OpenOptions, use: (corpus: Corpus, model: Model, signal: AbortSignal) => Promise<void>): Promise<void> {
  const precision = await precisionOf(options, options.store);
  await withInterrupt((signal) =>
    withModel({ ...options, precision }, async (model) => {
      const corpus = await openCorpus(options.store, { model, store: openStore(options.store), create: options.create });
      try {
        await use(corpus, model, signal);
      } finally {
        await corpus.close();
      }
    }),
  );
}
