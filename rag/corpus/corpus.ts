import { join } from "node:path";

import { type BlockKey, type BlockSource, type BlockStore, DEFAULT_LINK, KvspliceError, linkText, Lifetime, type Link, type Model, openDiskStore, parseLink, type Plan, type StoredTier } from "../../engine/index.js";
import { collect, type CollectOptions, type CollectReport } from "../care/collect.js";
import { verify, type VerifyOptions, type VerifyReport } from "../care/verify.js";
import { type Embedder, loadEmbedder, MINILM_DIMENSIONS, MINILM_ID } from "../embedder.js";
import { documentSource, layOut } from "../prompt.js";
import { Indexes } from "../retrieve/indexes.js";
import { exportCorpus, type ExportOptions, type ExportReport, systemBlock, type TransferOptions } from "../transfer/export.js";
import { importCorpus, type ImportReport } from "../transfer/import.js";
import { Answer, type Source } from "./answer.js";
import { Chunks, type CorpusChunk, type CorpusFile } from "./chunks.js";
import { estimate, type Estimate, type EstimateOptions } from "./estimate.js";
import { precompute, type PrecomputeOptions, type Report } from "./precompute.js";
import { removeDocuments, type RemoveReport } from "./remove.js";
import { type ModelSource, Records, type Totals, type Writer } from "./records.js";

export type CorpusOptions = {
  /** Encodes the chunks and answers; the corpus does not close it. */
  readonly model: Model;
  /** How the model was opened: the corpus remembers it, and `peekCorpus` tells it. */
  readonly modelSource?: ModelSource | undefined;
  /** Holds the chunks' blocks; the corpus does not close it. By default, files below the corpus's folder. */
  readonly store?: BlockStore;
  /** Makes a corpus where there is none; without it, that is an error. */
  readonly create?: boolean;
  /** MiniLM by default, loaded when first needed; the corpus does not close one that it was given. */
  readonly embedder?: Embedder;
};

export type RetrieveOptions = {
  /** Sources at most; 10 by default. */
  readonly topK?: number | undefined;
  readonly signal?: AbortSignal | undefined;
};

export type PlanOptions = {
  /** Link tokens after each document, 0 to what the model has; the model's measured best by default. */
  readonly linkTokens?: number | undefined;
};

export type AskOptions = RetrieveOptions &
  PlanOptions & {
    /** How the documents are linked; as the model's card says by default. */
    readonly link?: Link | undefined;
    readonly maxNewTokens?: number | undefined;
    /** Tokens guessed from the documents at a time; the answer is the same. 0 by default. */
    readonly promptLookup?: number | undefined;
  };

/** The model was trained with up to 10 documents a question. */
const DEFAULT_TOP_K = 10;

/**
 * Opens the corpus in a folder.
 *
 *     const model = await loadModel();
 *     const corpus = await openCorpus("store", { model, create: true });
 *     await corpus.precompute(["docs/"]);
 *     const answer = await corpus.ask("Who kept the lighthouse?");
 *     for await (const { text } of answer) process.stdout.write(text);
 *
 * @throws KvspliceError `bad_store` where there is no corpus and `create` is not set, where another model or embedder
 *   wrote it or in another precision, or where its format is newer
 */
export async function openCorpus(dir: string, options: CorpusOptions): Promise<Corpus> {
  const { model, modelSource, embedder, create = false } = options;
  const writer = { model: model.id, modelName: model.name, ...(modelSource && { modelSource }), precision: model.precision, embedder: embedder?.id ?? MINILM_ID };
  return new Corpus(dir, await Records.open(dir, writer, create), options);
}

/** What is known of a corpus without its model. */
export type CorpusSummary = Totals & Writer;

/** Looks at the corpus in a folder; undefined where there is none. */
export function peekCorpus(dir: string): Promise<CorpusSummary | undefined> {
  return Records.peek(dir);
}

/** Documents in the reach of questions: their chunks, vectors and block keys on disk, and the indexes over them. */
export class Corpus implements AsyncDisposable {
  private readonly indexes: Indexes;
  private readonly store: BlockStore;
  private readonly byRef: Chunks;
  private ownEmbedder: Promise<Embedder> | undefined;
  private readonly lifetime: Lifetime;
  private closed: Promise<void> | undefined;

  /** @internal Use `openCorpus`. */
  constructor(
    dir: string,
    private readonly records: Records,
    private readonly options: CorpusOptions,
  ) {
    this.store = options.store ?? openDiskStore(dir);
    this.lifetime = new Lifetime(`The corpus in ${dir} was closed. Open it again.`);
    this.byRef = new Chunks(records);
    this.indexes = new Indexes(records, join(dir, "index"), options.embedder?.dimensions ?? MINILM_DIMENSIONS);
  }

  get totals(): Totals {
    return this.records.totals;
  }

  /** Changes whenever the corpus does, by whichever process. */
  get generation(): string {
    return this.records.generation;
  }

  /**
   * Brings the corpus to the present state of files, folders and globs. Only what changed costs anything.
   *
   * @throws KvspliceError `bad_file` for a name that does not exist, `cancelled`, `no_space`; a file that cannot be
   *   loaded is told in the report's `problems`, and the others go on
   */
  async precompute(names: readonly string[], options?: PrecomputeOptions): Promise<Report> {
    const { records, store, embedder } = this;
    return this.lifetime.run(options?.signal, async (signal) => {
      const report = await precompute({ records, model: this.options.model, store, embedder }, names, { ...options, signal });
      await this.indexes.refresh();
      return report;
    });
  }

  /** What a precompute of these files would cost; nothing is changed. See `estimate`. */
  estimate(names: readonly string[], options?: EstimateOptions): Promise<Estimate> {
    const { records, store, embedder } = this;
    return this.lifetime.run(options?.signal, (signal) => estimate({ records, model: this.options.model, store, embedder }, names, { ...options, signal }));
  }

  /** All chunks, by path and number, each with its ref. */
  chunks(): Iterable<CorpusChunk> {
    return this.byRef.all();
  }

  /** All files, by path. */
  files(): Iterable<CorpusFile> {
    return this.byRef.files();
  }

  /** Takes documents out by the names of their files or folders. See `removeDocuments`. */
  async remove(names: readonly string[]): Promise<RemoveReport> {
    const report = await removeDocuments(this.records, this.store, names);
    await this.indexes.refresh();
    return report;
  }

  /** The chunk of a ref that people write, such as `forth-bridge.md#2` (see `Chunks`). @throws KvspliceError `unknown_document` */
  chunk(ref: string): CorpusChunk {
    return this.byRef.chunk(ref);
  }

  /** The same as a block of plans, as `compilePrompt` of kvsplice/pml takes documents. @throws KvspliceError `unknown_document` */
  readonly blockOf = (ref: string): BlockSource => documentSource(this.options.model, this.byRef.chunk(ref).tokens);

  /** Writes the corpus with its blocks as one file of safetensors, for another machine. See `exportCorpus`. */
  async exportTo(path: string, options?: ExportOptions): Promise<ExportReport> {
    return this.lifetime.run(options?.signal, (signal) => exportCorpus({ records: this.records, model: this.options.model, store: this.store }, path, { ...options, signal }));
  }

  /** Brings an exported corpus into this one; what is here stays as it is. See `importCorpus`. */
  async importFrom(path: string, options?: TransferOptions): Promise<ImportReport> {
    return this.lifetime.run(options?.signal, async (signal) => {
      const report = await importCorpus({ records: this.records, model: this.options.model, store: this.store }, path, { ...options, signal });
      this.store.pin?.([...this.records.blockKeys()]);
      await this.indexes.refresh();
      return report;
    });
  }

  /** Reads all that is stored, and tells what is damaged or missing. See `verify`. */
  async verify(tiers: readonly StoredTier[], options?: VerifyOptions): Promise<VerifyReport> {
    const dimensions = this.options.embedder?.dimensions ?? MINILM_DIMENSIONS;
    return this.lifetime.run(options?.signal, (signal) => verify({ records: this.records, model: this.options.model, tiers, dimensions }, { ...options, signal }));
  }

  /** Whether a block is one of the corpus: a chunk's, or the system text's that stands before its chunks. */
  holds(key: BlockKey): boolean {
    return key === systemBlock(this.options.model) || this.records.refersTo(key);
  }

  /** Removes from a tier what this corpus does not refer to. See `collect`. */
  async collect(tier: StoredTier, options?: CollectOptions): Promise<CollectReport> {
    return collect(tier, (key) => this.holds(key), options);
  }

  /** Loads embedder and indexes now, so that the first question does not wait for them. */
  async ready(): Promise<void> {
    await Promise.all([this.embedder(), this.indexes.refresh()]);
  }

  /**
   * The chunks that fit a question best, by meaning and by words, the best first; no two of equal title and text.
   *
   * @throws KvspliceError `bad_argument` for an empty question or topK below 1, `empty_corpus`, `cancelled`
   */
  retrieve(question: string, options: RetrieveOptions = {}): Promise<Source[]> {
    return this.lifetime.run(options.signal, (signal) => this.find(question, { ...options, signal }));
  }

  private async find(question: string, { topK = DEFAULT_TOP_K, signal }: RetrieveOptions): Promise<Source[]> {
    if (question.trim() === "") throw new KvspliceError("bad_argument", "The question is empty; ask one in words.");
    if (!Number.isInteger(topK) || topK < 1) {
      throw new KvspliceError("bad_argument", `The number of documents (top-k) is ${topK}; choose a whole number from 1.`);
    }
    if (this.totals.chunks === 0) {
      throw new KvspliceError("empty_corpus", "The corpus has no documents yet; precompute some first: kvsplice precompute FILES");
    }
    const [[vector]] = await Promise.all([
      this.embedder().then((embedder) => embedder.embed([question], { signal })),
      this.indexes.refresh().then(() => this.expect(this.indexes.searchWords(question, topK))),
    ]);
    if (signal?.aborted) throw new KvspliceError("cancelled", "The question was cancelled.", { cause: signal.reason });

    const sources = new Map<string, Source>();
    for (const { id, score } of this.indexes.search(question, vector!, topK)) {
      const chunk = this.records.chunk(id);
      if (chunk === undefined || sources.has(chunk.block)) continue;
      const { path, title, page, text, tokens } = chunk;
      sources.set(chunk.block, { ref: this.byRef.refOf(path, id), path, title, ...(page === undefined ? {} : { page }), score, text, tokens });
      if (sources.size === topK) break;
    }
    this.store.prefetch?.([...sources.keys()]);
    return [...sources.values()];
  }

  /** Chunks that are likely to be asked for: their blocks are on their way while the question is being embedded. */
  private expect(ids: readonly number[]): void {
    this.store.prefetch?.(ids.flatMap((id) => this.records.chunk(id)?.block ?? []));
  }

  /**
   * The prompt over the sources: system, (document, its link tokens) ..., question. The best source comes last, next
   * to the question, where the model reads it best: of the 40 questions in examples/, 30 are answered right that way,
   * and 26 with the best source first (`npm run questions`).
   *
   * @throws KvspliceError `too_long` where the model's context does not hold it, `bad_argument` for link tokens
   */
  plan(question: string, sources: readonly Pick<Source, "tokens">[], { linkTokens }: PlanOptions = {}): Plan {
    return layOut(this.options.model, question, sources.map(({ tokens }) => tokens).reverse(), linkTokens);
  }

  /** How documents are linked unless somebody says otherwise: as an audit found, or the model's card says, or as a model that nobody measured is given. */
  get link(): Link {
    const link = this.records.link ?? this.options.model.card.link;
    return link === undefined ? DEFAULT_LINK : parseLink(link);
  }

  /** Has documents linked so from now on, unless somebody says otherwise. */
  set link(link: Link) {
    this.records.noteLink(linkText(link));
  }

  /** Retrieves, plans and begins to answer. Resolves when the sources are known. */
  async ask(question: string, options: AskOptions = {}): Promise<Answer> {
    const { model } = this.options;
    const { signal, maxNewTokens, promptLookup } = options;
    const start = performance.now();
    const sources = await this.retrieve(question, options);
    const link = options.link ?? this.link;
    const plan = this.plan(question, sources, options);
    const retrieve_ms = performance.now() - start;
    const generation = model.generate(plan, {
      store: this.store,
      stop: model.card.stop ?? [],
      link,
      ...(maxNewTokens === undefined ? {} : { maxNewTokens }),
      ...(promptLookup === undefined ? {} : { promptLookup }),
      // Closing the corpus ends its answers.
      signal: signal === undefined ? this.lifetime.signal : AbortSignal.any([signal, this.lifetime.signal]),
    });
    return new Answer(sources, plan, retrieve_ms, generation);
  }

  /** Ends all of its work, its answers too, with KvspliceError `closed`, and waits for it. */
  close(): Promise<void> {
    return (this.closed ??= this.end());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async end(): Promise<void> {
    await this.lifetime.close();
    await this.records.close();
    if (this.options.store === undefined) await this.store.close();
    await (await this.ownEmbedder)?.close();
  }

  private readonly embedder = async (): Promise<Embedder> => {
    return this.options.embedder ?? (await (this.ownEmbedder ??= loadEmbedder()));
  };
}
