import { join } from "node:path";
import pc from "picocolors";
import { loadModel, openDiskStore, type Model } from "../engine/index.js";
import { openCorpus, type Corpus } from "../rag/index.js";

export type OpenOptions = { readonly store: string; readonly model?: string; readonly create: boolean };

/** Opens the corpus of a store folder with its model for one command, and closes all of it afterwards. */
export async function withCorpus(options: OpenOptions, use: (corpus: Corpus, model: Model, signal: AbortSignal) => Promise<void>): Promise<void> {
  const interrupt = new AbortController();
  const onInterrupt = () => {
    if (interrupt.signal.aborted) process.exit(130); // a second Ctrl-C does not wait
    interrupt.abort();
  };
  process.on("SIGINT", onInterrupt);
  process.on("SIGTERM", onInterrupt);
  const model = await loadModel(options.model === undefined ? {} : { path: options.model });
  try {
    const store = openDiskStore(join(options.store, "blocks"), {
      onDamage: (key, path) => process.stderr.write(`${pc.yellow("warning:")} block ${key.slice(0, 12)} (${path}) does not verify; it is encoded again.\n`),
    });
    const corpus = await openCorpus(options.store, { model, store, create: options.create });
    try {
      await use(corpus, model, interrupt.signal);
    } finally {
      await corpus.close();
    }
  } finally {
    await model.close();
    process.off("SIGINT", onInterrupt);
    process.off("SIGTERM", onInterrupt);
  }
}
