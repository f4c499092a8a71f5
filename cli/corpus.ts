import type { Model, Precision, TieredStore } from "../engine/index.js";
import { openCorpus, peekCorpus, type Corpus } from "../rag/index.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel } from "./model.js";
import { openStore, type StoreOptions } from "./store.js";

export type OpenOptions = StoreOptions & ModelOptions & { readonly store: string; readonly precision?: Precision; readonly create: boolean; readonly json?: boolean };

/** Opens the corpus of a store folder with its model for one command, and closes all of it afterwards. */
export async function withCorpus(options: OpenOptions, use: (corpus: Corpus, model: Model, signal: AbortSignal, store: TieredStore) => Promise<void>): Promise<void> {
  const choice = await chooseModel(options, options.store);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal }, async (model) => {
      // Where there is none, this says so before a store is made there.
      if (!options.create && !(await peekCorpus(options.store))) await openCorpus(options.store, { model });
      const store = openStore(options.store, options);
      try {
        const corpus = await openCorpus(options.store, { model, modelSource: choice.source, store, create: options.create });
        try {
          await use(corpus, model, signal, store);
        } finally {
          await corpus.close();
        }
      } finally {
        await store.close();
      }
    }),
  );
}
