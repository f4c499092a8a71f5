import type { Model, Precision, TieredStore } from "../engine/index.js";
import { type Corpus, mustOpen, openCorpus, peekCorpus } from "../rag/index.js";
import { type EmbedderOptions, type LoadedEmbedder, openEmbedder } from "./embedder.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel } from "./model.js";
import { openConfiguredStore, type StoreOptions } from "./store.js";

export type OpenOptions = StoreOptions &
  ModelOptions &
  EmbedderOptions & { readonly store: string; readonly precision?: Precision; readonly create: boolean; readonly json?: boolean };

/** Opens a store folder's corpus and its model for one command, and closes everything afterwards. */
export async function withCorpus(
  options: OpenOptions,
  use: (corpus: Corpus, model: Model, signal: AbortSignal, store: TieredStore) => Promise<void>,
): Promise<void> {
  const choice = await chooseModel(options, options.store);
  const found = await peekCorpus(options.store);
  const onIdentified = (model: Pick<Model, "id" | "name" | "encoding">) => mustOpen(options.store, model, choice.source);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal, onIdentified }, async (model) => {
      // If there is no corpus, this reports it before a store is created there.
      if (!options.create && !found) await openCorpus(options.store, { model });
      const store = openConfiguredStore(options.store, options);
      const chosen: Partial<LoadedEmbedder> = options.embedder === undefined ? {} : await openEmbedder(options, options.store, signal);
      try {
        const corpus = await openCorpus(options.store, { model, modelSource: choice.source, store, create: options.create, ...chosen });
        try {
          await use(corpus, model, signal, store);
        } finally {
          await corpus.close();
        }
      } finally {
        await chosen.embedder?.close();
        await store.close();
      }
    }),
  );
}
