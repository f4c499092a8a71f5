import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import type { Logger } from "pino";
import { ConversationRecords } from "../chat/index.js";
import { defaultModelPath, KvspliceError, type Model, mayWriteLmdb, modelNeeds } from "../engine/index.js";
import { type Corpus, type Embedder, mustOpen, openCorpus, peekCorpus, type Totals } from "../rag/index.js";
import { type Offer, Uploads } from "../server/index.js";
import { chooseModel, fetchModel, type ModelChoice, type ModelOptions, type LoadOptions as OpenOptions, openModel } from "./model.js";
import { everyMinute } from "./progress.js";
import { openConfiguredStore, type StoreOptions } from "./store.js";

export type OfferOptions = StoreOptions &
  Omit<ModelOptions, "model"> & {
    readonly store: readonly string[];
    readonly model: readonly string[];
    readonly chatTokens: number;
    readonly chatDays: number;
    readonly shareConversations?: boolean;
    readonly encodeQueue?: string;
    readonly json?: boolean;
  };

type Surroundings = { readonly embedder: Embedder; readonly log: Logger; readonly signal: AbortSignal };

type Opening = Awaited<ReturnType<Offer["open"]>>;

export const DAY_ms = 86_400_000;
const EMPTY: Totals = { files: 0, chunks: 0, tokens: 0 };

/**
 * What a server offers: each store's corpus with the model it was made with, and each further model without a corpus. The
 * first offer is already open.
 *
 * @returns the offers, and a function that removes the temporary folders of models without a store
 */
export async function offersOf(
  options: OfferOptions,
  around: Surroundings,
): Promise<{ readonly offers: readonly Offer[]; remove(): void }> {
  const { store: stores, model: models } = options;
  const shelf = new ModelShelf();
  const single = stores.length <= 1 && models.length <= 1;
  const offers: Offer[] = [];
  const temporary: string[] = [];
  const add = async (folder: string, corpus: string, model: string | undefined): Promise<void> => {
    const choice = await chooseModel({ ...options, model }, folder);
    const offer = await makeOffer({ folder, corpus, choice, shelf, options, around, eager: offers.length === 0 });
    const same = offers.find((other) => other.model === offer.model && other.corpus === offer.corpus);
    if (same)
      throw new KvspliceError(
        "bad_argument",
        `${corpus === "" ? `The model ${offer.model} is named twice.` : `Two stores would both be '${offer.model}/${corpus}'. Rename one of the folders.`}`,
      );
    offers.push(offer);
  };
  for (const folder of stores) {
    const known = single ? undefined : await peekCorpus(folder);
    await add(folder, corpusName(folder), known ? undefined : models[0]);
  }
  const alone = stores.length === 0 && models.length === 0 ? [undefined] : stores.length > 0 && single ? [] : models;
  for (const model of alone) {
    const folder = mkdtempSync(join(tmpdir(), "kvsplice-serve-"));
    temporary.push(folder);
    const path = model === undefined ? undefined : await fetchModel(await chooseModel({ ...options, model }, undefined), around);
    if (path !== undefined && offers.some((offer) => offer.model === modelNeeds(path, options).name)) continue; // a corpus has it
    await add(folder, "", model);
  }
  return { offers, remove: () => temporary.forEach((folder) => rmSync(folder, { recursive: true, force: true })) };
}

/** The name that requests use for the corpus of a store's folder. */
function corpusName(folder: string): string {
  return basename(resolve(folder)).replace(/\.kv$/, "");
}

type OfferParts = {
  readonly folder: string;
  readonly corpus: string;
  readonly choice: ModelChoice;
  readonly shelf: ModelShelf;
  readonly options: OfferOptions;
  readonly around: Surroundings;
  readonly eager: boolean;
};

async function makeOffer({ folder, corpus: name, choice, shelf, options, around, eager }: OfferParts): Promise<Offer> {
  const { embedder, log, signal } = around;
  const path = (await fetchModel(choice, { signal, json: options.json })) ?? (await defaultModelPath());
  let corpus: Corpus | undefined;
  const open = async (): Promise<Opening> => {
    // Only the first offer's model is checked before it is built. The others are loaded already, or serve corpora that may open them.
    const model = await shelf.take(choice, {
      json: options.json,
      signal,
      ...(eager && { onIdentified: (identified) => mustOpen(folder, identified, choice.source) }),
    });
    const store = openConfiguredStore(folder, options, (message) => log.warn(message));
    const embeddedBy = (await peekCorpus(folder))?.embedder ?? embedder.id;
    // A corpus made with another embedder loads that itself.
    const opened = await openCorpus(folder, {
      model,
      modelSource: choice.source,
      store,
      create: true,
      ...(embeddedBy === embedder.id && { embedder }),
    });
    corpus = opened;
    const notes = placeOfRecords(folder, log);
    const records = ConversationRecords.open(notes.path, {
      maxTokens: options.chatTokens,
      maxAge_ms: options.chatDays * DAY_ms,
      // Servers that share conversations evict them together.
      forget: (keys) =>
        void store
          .delete(keys, { keepPinned: true, here: options.shareConversations === true })
          .catch((error: unknown) => log.warn({ err: error }, "KV of old conversations could not be deleted")),
    });
    await everyMinute(() => log.info(`reading the indexes of ${opened.totals.chunks} chunks`), opened.ready());
    const { encodeQueue } = options;
    // Loaded only if needed: it has two hundred modules.
    const elsewhere =
      encodeQueue === undefined
        ? undefined
        : await (await import("../fleet/index.js")).openElsewhere({
            url: encodeQueue,
            model,
            store,
            onNotice: (notice) => log.warn(notice),
          });
    return {
      model,
      store,
      corpus: opened,
      records,
      elsewhere,
      uploads: new Uploads(join(resolve(folder), "documents")),
      async close() {
        corpus = undefined;
        await elsewhere?.close();
        await records.close();
        notes.remove();
        await opened.close();
        await store.close();
        await shelf.giveBack(choice);
      },
    };
  };
  let ready = eager ? await open() : undefined;
  const known = ready ? undefined : await peekCorpus(folder);
  return {
    model: ready?.model.name ?? known?.modelName ?? modelNeeds(path, choice.source).name,
    corpus: name,
    needs_bytes: () => (shelf.has(choice) ? 0 : modelNeeds(path, choice.source).memory_bytes),
    totals: async () => corpus?.totals ?? (await peekCorpus(folder)) ?? EMPTY,
    async open() {
      const opened = ready ?? (await open());
      ready = undefined;
      return opened;
    },
  };
}

/** Where conversations are recorded: in the store's folder, or, if that is read-only, in a folder deleted when the server ends. */
function placeOfRecords(folder: string, log: Logger): { readonly path: string; remove(): void } {
  const path = join(folder, "conversations.lmdb");
  if (mayWriteLmdb(path)) return { path, remove: () => undefined };
  log.warn(`The store in ${folder} is read-only: conversations are remembered only while this server runs.`);
  const temporary = mkdtempSync(join(tmpdir(), "kvsplice-serve-"));
  return { path: join(temporary, "conversations.lmdb"), remove: () => rmSync(temporary, { recursive: true, force: true }) };
}

/** Open models, keyed by how they were opened. Corpora share a model, which is closed with the last of them. */
class ModelShelf {
  private readonly models = new Map<string, { readonly model: Promise<Model>; users: number }>();

  has(choice: ModelChoice): boolean {
    return this.models.has(JSON.stringify(choice));
  }

  async take(
    choice: ModelChoice,
    { json, ...options }: Pick<OpenOptions, "signal" | "onIdentified"> & { readonly json?: boolean | undefined },
  ): Promise<Model> {
    const key = JSON.stringify(choice);
    const known = this.models.get(key) ?? { model: openModel({ ...choice, ...(json && { json }), ...options }), users: 0 };
    this.models.set(key, known);
    known.users++;
    known.model.catch(() => this.models.delete(key));
    return known.model;
  }

  async giveBack(choice: ModelChoice): Promise<void> {
    const key = JSON.stringify(choice);
    const known = this.models.get(key);
    if (!known || --known.users > 0) return;
    this.models.delete(key);
    await (await known.model).close();
  }
}
