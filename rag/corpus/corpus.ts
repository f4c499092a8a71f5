import { join } from "node:path";

import {
  type BlockKey,
  type BlockSource,
  type BlockStore,
  DEFAULT_ENCODING,
  DEFAULT_LINK,
  type GenerateOptions,
  type Generation,
  KvspliceError,
  Lifetime,
  type Link,
  linkText,
  type Model,
  openDiskStore,
  type Plan,
  parseLink,
  type StoredTier,
} from "../../engine/index.js";
import { Grammars, type Schema } from "../../grammar/index.js";
import { type CollectOptions, type CollectReport, collect } from "../care/collect.js";
import { type VerifyOptions, type VerifyReport, verify } from "../care/verify.js";
import type { Embedder } from "../embed/embedder.js";
import { loadEmbedder } from "../embed/load.js";
import { documentSource, layOut } from "../question-plan.js";
import { fuse } from "../retrieve/fusion.js";
import { Indexes } from "../retrieve/indexes.js";
import type { Where } from "../retrieve/where.js";
import { type ExportOptions, type ExportReport, exportCorpus, systemBlock, type TransferOptions } from "../transfer/export.js";
import { type ImportReport, importCorpus } from "../transfer/import.js";
import { CorpusAnswer, nothing, type Source } from "./answer.js";
import { Chunks, type CorpusChunk, type CorpusFile } from "./chunks.js";
import { type Estimate, type EstimateOptions, estimate } from "./estimate.js";
import { allFields, FieldTable } from "./field-table.js";
import { readingsOf, type Said, weigh } from "./follow-up.js";
import { type PrecomputeOptions, precompute, type Report } from "./precompute.js";
import { type ChunkRecord, CorpusRecords, type ModelSource, type Totals, type Writer } from "./records.js";
import { type RemoveReport, removeDocuments } from "./remove.js";

/** Options for opening a corpus. */
export type CorpusOptions = {
  /** Encodes the chunks and answers; the corpus does not close it. */
  readonly model: Model;
  /** How the model was opened: the corpus stores it, and `peekCorpus` returns it. Not stored by default. */
  readonly modelSource?: ModelSource | undefined;
  /** Keeps the chunks' blocks; the corpus does not close it. By default, files below the corpus's folder. */
  readonly store?: BlockStore;
  /** Creates the corpus if there is none; otherwise (by default), that is an error. */
  readonly create?: boolean;
  /** By default the one that embedded the corpus, or MiniLM for a new one, loaded when needed. One passed here is not closed. */
  readonly embedder?: Embedder;
  /** How the embedder can be loaded again (`loadEmbedder`'s name): the corpus stores it. By default what it has stored. */
  readonly embedderName?: string | undefined;
};

/** Which chunks a question may find, and how many. */
export type RetrieveOptions = {
  /** Most sources; 10 by default. */
  readonly topK?: number | undefined;
  /** Searches only chunks whose fields match. All by default. */
  readonly where?: Where | undefined;
  /** Earlier messages, oldest first, as context for a follow-up question such as "and how high is it?". None by default. */
  readonly history?: readonly Said[] | undefined;
  /** If the best chunk's score (0 to 1) is below this, nothing counts as found; false accepts any. By default the embedder's floor. */
  readonly floor?: number | false | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** What was found for a question. */
export type Found = {
  /** Best first; none if the best score is below the floor. */
  readonly sources: readonly Source[];
  /** Score of the best chunk, whether it is among the sources or below the floor; 0 if no chunk was searched. */
  readonly best_score: number;
  /** The score it had to reach; undefined if any is accepted. */
  readonly floor: number | undefined;
};

/** How to lay out a prompt. */
export type PlanOptions = {
  /** Link tokens after each document, from 0 to as many as the model has; by default the number that measured best. */
  readonly linkTokens?: number | undefined;
};

/** How to answer a question: sources, prompt and answer. */
export type AskOptions = RetrieveOptions &
  PlanOptions & {
    /** How the documents are linked; as the model's card says by default. */
    readonly link?: Link | undefined;
    /** Maximum tokens of the answer; by default what the model's card says. */
    readonly maxNewTokens?: number | undefined;
    /** Tokens guessed from the documents at a time; the answer is the same. 0 by default. */
    readonly promptLookup?: number | undefined;
    /** Makes the answer JSON that this schema (JSON Schema or zod 4) accepts, unless it is cut by its length; any text by default. */
    readonly schema?: Schema | undefined;
  };

/** The model was trained with up to 10 documents per question. */
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
 * @throws KvspliceError `bad_store` if there is no corpus and `create` is not set, if it was written with another model,
 *   embedder or precision, or if its format is newer
 */
export async function openCorpus(dir: string, options: CorpusOptions): Promise<Corpus> {
  const { model, modelSource, embedder, embedderName, create = false } = options;
  const writer = {
    model: model.id,
    modelName: model.name,
    ...(modelSource && { modelSource }),
    precision: model.precision,
    ...(model.encoding !== DEFAULT_ENCODING && { encoding: model.encoding }),
    embedder: embedder?.id,
    embedderName,
  };
  return new Corpus(dir, await CorpusRecords.open(dir, writer, create), options);
}

/** What is known about a corpus without its model. */
export type CorpusSummary = Totals & Writer;

/** Looks at the corpus in a folder; undefined if there is none. */
export function peekCorpus(dir: string): Promise<CorpusSummary | undefined> {
  return CorpusRecords.peek(dir);
}

/**
 * Checks, before a model is loaded, that it may open the corpus in a folder. Accepts a missing corpus, and one without chunks.
 *
 * @param source how the model is opened, for the command in the message
 * @throws KvspliceError `bad_store` for a model other than the one that wrote it, or if an older kvsplice encoded it
 */
export function mustOpen(dir: string, model: Pick<Model, "id" | "name" | "encoding">, source?: ModelSource): Promise<void> {
  return CorpusRecords.mustBeWrittenBy(dir, model, source);
}

/** Documents that can be asked about: their chunks, vectors and block keys on disk, and the indexes over them. */
export class Corpus implements AsyncDisposable {
  private readonly indexes: Indexes;
  private readonly fields: FieldTable;
  /** Keeps the chunks' blocks and anything else put into it: the store that the corpus was opened with, or files below its folder. */
  readonly store: BlockStore;
  private readonly byRef: Chunks;
  private ownEmbedder: Promise<Embedder> | undefined;
  /** Grammars over the model's vocabulary, for constrained answers. */
  readonly grammars: Grammars;
  private readonly lifetime: Lifetime;
  private closed: Promise<void> | undefined;

  /** @internal Use `openCorpus`. */
  constructor(
    dir: string,
    private readonly records: CorpusRecords,
    private readonly options: CorpusOptions,
  ) {
    this.store = options.store ?? openDiskStore(dir);
    this.lifetime = new Lifetime(`The corpus in ${dir} was closed. Open it again.`);
    this.byRef = new Chunks(records);
    this.grammars = new Grammars(options.model);
    this.indexes = new Indexes(records, join(dir, "index"));
    this.fields = new FieldTable(records);
  }

  /** What the corpus holds now: files, chunks and tokens. */
  get totals(): Totals {
    return this.records.totals;
  }

  /** Changes whenever any process changes the corpus. */
  get generation(): string {
    return this.records.generation;
  }

  /**
   * Updates the corpus to the current state of files, folders and globs. Only changes cost anything.
   *
   * @throws KvspliceError `bad_file` for a name that does not exist, `cancelled`, `no_space`; a file that cannot be
   *   loaded is reported in `problems` and does not stop the others
   */
  async precompute(names: readonly string[], options?: PrecomputeOptions): Promise<Report> {
    const { records, store, embedder } = this;
    return this.lifetime.run(options?.signal, async (signal) => {
      const report = await precompute({ records, model: this.options.model, store, embedder }, names, { ...options, signal });
      await this.indexes.refresh();
      return report;
    });
  }

  /** What a precompute of these files would cost; changes nothing. See `estimate`. */
  estimate(names: readonly string[], options?: EstimateOptions): Promise<Estimate> {
    const { records, store, embedder } = this;
    return this.lifetime.run(options?.signal, (signal) =>
      estimate({ records, model: this.options.model, store, embedder }, names, { ...options, signal }),
    );
  }

  /** All chunks, by path and number, each with its ref. */
  chunks(): Iterable<CorpusChunk> {
    return this.byRef.all();
  }

  /** All files, by path. */
  files(): Iterable<CorpusFile> {
    return this.byRef.files();
  }

  /** A file by a unique end of its path. @throws KvspliceError `unknown_document` */
  file(name: string): CorpusFile {
    return this.byRef.file(name);
  }

  /** Removes documents by the names of their files or folders. See `removeDocuments`. */
  async remove(names: readonly string[]): Promise<RemoveReport> {
    const report = await removeDocuments(this.records, this.store, names);
    await this.indexes.refresh();
    return report;
  }

  /** The chunks of a file, in order, by a unique end of its path. @throws KvspliceError `unknown_document` */
  chunksOf(file: string): readonly CorpusChunk[] {
    return this.byRef.chunksOf(file);
  }

  /** The chunk with a ref such as `forth-bridge.md#2` (see `Chunks`). @throws KvspliceError `unknown_document` */
  chunk(ref: string): CorpusChunk {
    return this.byRef.chunk(ref);
  }

  /** The same as a block for plans, as `compilePrompt` of kvsplice/pml takes documents. @throws KvspliceError `unknown_document` */
  readonly blockOf = (ref: string): BlockSource => documentSource(this.options.model, this.byRef.chunk(ref).tokens);

  /** Writes the corpus with its blocks to one safetensors file, for another machine. See `exportCorpus`. */
  async exportTo(path: string, options?: ExportOptions): Promise<ExportReport> {
    return this.lifetime.run(options?.signal, (signal) =>
      exportCorpus({ records: this.records, model: this.options.model, store: this.store }, path, { ...options, signal }),
    );
  }

  /** Adds an exported corpus to this one; existing content does not change. See `importCorpus`. */
  async importFrom(path: string, options?: TransferOptions): Promise<ImportReport> {
    return this.lifetime.run(options?.signal, async (signal) => {
      const report = await importCorpus({ records: this.records, model: this.options.model, store: this.store }, path, {
        ...options,
        signal,
      });
      this.store.pin?.([...this.records.blockKeys()]);
      await this.indexes.refresh();
      return report;
    });
  }

  /** Reads everything that is stored, and reports what is damaged or missing. See `verify`. */
  async verify(tiers: readonly StoredTier[], options?: VerifyOptions): Promise<VerifyReport> {
    const dimensions = this.options.embedder?.dimensions ?? this.records.dimensions;
    return this.lifetime.run(options?.signal, (signal) =>
      verify({ records: this.records, model: this.options.model, tiers, dimensions }, { ...options, signal }),
    );
  }

  /** Whether a block belongs to the corpus: a chunk's, or that of the system text before its chunks. */
  holds(key: BlockKey): boolean {
    return key === systemBlock(this.options.model) || this.records.refersTo(key);
  }

  /** Removes from a tier the blocks that this corpus does not refer to. See `collect`. */
  async collect(tier: StoredTier, options?: CollectOptions): Promise<CollectReport> {
    return collect(tier, (key) => this.holds(key), options);
  }

  /** Loads embedder and indexes now, so that the first question need not wait for them. */
  async ready(): Promise<void> {
    await Promise.all([this.embedder(), this.indexes.refresh()]);
  }

  /**
   * The chunks that fit a question best, by meaning and by words, best first, without duplicates in title and text. None if
   * nothing in the corpus seems to answer it (see `floor`).
   *
   * @throws KvspliceError `bad_argument` for an empty question, topK below 1, or a condition on a field that no document has;
   *   `empty_corpus`, `cancelled`
   */
  async retrieve(question: string, options: RetrieveOptions = {}): Promise<readonly Source[]> {
    return (await this.find(question, options)).sources;
  }

  /** The same, with the scores that decided whether anything was found. @throws like `retrieve` */
  find(question: string, options: RetrieveOptions = {}): Promise<Found> {
    return this.lifetime.run(options.signal, (signal) => this.look(question, { ...options, signal }));
  }

  private async look(question: string, { topK = DEFAULT_TOP_K, where, history = [], floor, signal }: RetrieveOptions): Promise<Found> {
    if (question.trim() === "") throw new KvspliceError("bad_argument", "The question is empty; ask one in words.");
    if (!Number.isInteger(topK) || topK < 1) {
      throw new KvspliceError("bad_argument", `The number of documents (top-k) is ${topK}; choose a whole number, 1 or more.`);
    }
    if (this.totals.chunks === 0) {
      throw new KvspliceError("empty_corpus", "The corpus has no documents yet; precompute some first: kvsplice precompute FILES");
    }
    const only = where && Object.keys(where).length > 0 ? await this.fields.select(where) : undefined;
    const readings = readingsOf(question, history);
    const embedder = await this.embedder();
    const [vectors, worded] = await Promise.all([
      embedder.embed(
        readings.map(({ text }) => text),
        { as: "question", signal },
      ),
      this.indexes.refresh().then(() => {
        const found = readings.map(({ text }) => this.indexes.searchWords(text, topK, only));
        this.expect(found.at(-1)!.hits.slice(0, topK));
        return found;
      }),
    ]);
    if (signal?.aborted) throw new KvspliceError("cancelled", "The question was cancelled.", { cause: signal.reason });
    this.mustBeEmbeddedBy(embedder);

    const searches = vectors.map((vector, index) => ({ vector, worded: worded[index]! }));
    const background = embedder.floor === undefined ? this.indexes.background() : undefined;
    const lists = this.indexes.search(searches, topK, only).map((candidates) => fuse(candidates, background));
    const hits = weigh(readings, lists);
    // A question that starts a new topic is not lost because of the messages before it.
    const best_score = Math.max(hits[0]?.score ?? 0, lists[0]![0]?.score ?? 0);
    const least = floor === false ? undefined : (floor ?? embedder.floor);
    if (least !== undefined && best_score < least) return { sources: [], best_score, floor: least };

    const sources = new Map<string, Source>();
    for (const { id, score } of hits) {
      const chunk = this.records.chunk(id);
      if (chunk === undefined || sources.has(chunk.block)) continue;
      sources.set(chunk.block, this.sourceOf(id, chunk, score));
      if (sources.size === topK) break;
    }
    this.store.prefetch?.([...sources.keys()]);
    return { sources: [...sources.values()], best_score, floor: least };
  }

  private sourceOf(id: number, { path, title, page, fields, text, tokens }: ChunkRecord, score: number): Source {
    const { date } = allFields({ path, title, page, fields }, this.records.file(path));
    const own = { ...(page !== undefined && { page }), ...(fields !== undefined && { fields }), ...(typeof date === "string" && { date }) };
    return { ref: this.byRef.refOf(path, id), path, title, ...own, score, text, tokens };
  }

  /** Meanwhile another process may have embedded the corpus again, or the stored path may now have another encoder. */
  private mustBeEmbeddedBy({ id }: Embedder): void {
    const { embedder } = this.records.writer;
    if (embedder !== id)
      throw new KvspliceError(
        "bad_store",
        `The corpus is embedded by ${embedder}, but was opened with ${id}; open it again with the former.`,
      );
  }

  /** Prefetches the blocks of likely chunks while the question is being embedded. */
  private expect(hits: readonly { readonly id: number }[]): void {
    this.store.prefetch?.(hits.flatMap(({ id }) => this.records.chunk(id)?.block ?? []));
  }

  /**
   * The prompt over the sources: system, (document, its link tokens) ..., question. The best source comes last, next
   * to the question, where the model reads it best: of the 40 questions in examples/, it answers 30 correctly that way,
   * and 26 with the best source first (`npm run questions`).
   *
   * @throws KvspliceError `too_long` if it does not fit into the model's context, `bad_argument` for link tokens
   */
  plan(question: string, sources: readonly Pick<Source, "tokens">[], { linkTokens }: PlanOptions = {}): Plan {
    return layOut(this.options.model, question, sources.map(({ tokens }) => tokens).reverse(), linkTokens);
  }

  /** How documents are linked by default: as an audit found, or as the model's card says, or the default for unmeasured models. */
  get link(): Link {
    const link = this.records.link ?? this.options.model.card.link;
    return link === undefined ? DEFAULT_LINK : parseLink(link);
  }

  /** Sets how documents are linked by default from now on. */
  set link(link: Link) {
    this.records.noteLink(linkText(link));
  }

  /**
   * Retrieves, plans and begins to answer. Resolves when the sources are known. If there are none, nothing is generated (`found`).
   * @throws KvspliceError like `retrieve` and `plan`, and `bad_argument` for a schema that cannot be enforced
   */
  async ask(question: string, options: AskOptions = {}): Promise<CorpusAnswer> {
    const { signal, link, maxNewTokens, promptLookup, schema } = options;
    const grammar = schema === undefined ? undefined : await this.grammars.ofSchema(schema, signal && { signal });
    const start = performance.now();
    const { sources, best_score } = await this.find(question, options);
    const plan = this.plan(question, sources, options);
    const retrieve_ms = performance.now() - start;
    if (sources.length === 0) return new CorpusAnswer(sources, plan, retrieve_ms, best_score, nothing());
    const generation = this.generate(plan, {
      ...(link && { link }),
      ...(grammar && { grammar, stop: [] }),
      ...(maxNewTokens === undefined ? {} : { maxNewTokens }),
      ...(promptLookup === undefined ? {} : { promptLookup }),
      ...(signal && { signal }),
    });
    return new CorpusAnswer(sources, plan, retrieve_ms, best_score, generation);
  }

  /**
   * Answers a plan over this corpus's documents: their KV states come from its store, they are linked as in `ask`, and the card's
   * stop texts or closing the corpus end the answer. Options override any of this.
   *
   *     const sources = await corpus.retrieve(question, { topK: 4 });
   *     const answer = corpus.generate(corpus.plan(question, sources));
   *
   * @throws KvspliceError `closed`
   */
  generate(plan: Plan, options: GenerateOptions = {}): Generation {
    this.lifetime.mustBeOpen();
    const { model } = this.options;
    return model.generate(plan, { store: this.store, stop: model.card.stop ?? [], link: this.link, within: this.lifetime, ...options });
  }

  /** Ends all work, including answers, with KvspliceError `closed`, and waits for it to end. */
  close(): Promise<void> {
    return (this.closed ??= this.end());
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async end(): Promise<void> {
    await this.lifetime.close();
    await this.records.close();
    await this.grammars.close();
    if (this.options.store === undefined) await this.store.close();
    await (await this.ownEmbedder)?.close();
  }

  private readonly embedder = async (): Promise<Embedder> => {
    const embedder = this.options.embedder ?? (await (this.ownEmbedder ??= loadEmbedder({ name: this.records.writer.embedderName })));
    this.mustBeEmbeddedBy(embedder);
    return embedder;
  };
}
