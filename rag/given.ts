import { type BlockStore, DEFAULT_LINK, type Generation, type Grammar, type Link, type Model, parseLink } from "../engine/index.js";
import { layOut } from "./question-plan.js";
import { splitDocument } from "./split.js";

/** A document found elsewhere. */
export type GivenDocument = {
  readonly title?: string | undefined;
  readonly text: string;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
};

/** A question over documents found elsewhere. */
export type AnswerOptions = {
  readonly model: Model;
  /** Where the documents' KV states are looked up and kept for the next question; without it they are computed each time. */
  readonly store?: BlockStore | undefined;
  readonly question: string;
  /** Best first: the best is placed next to the question, where the model reads it best. */
  readonly documents: readonly GivenDocument[];
  /** What the answer may be; any text by default. */
  readonly grammar?: Grammar | undefined;
  /** How the documents are linked; as the model's card says by default. */
  readonly link?: Link | undefined;
  /** The card's by default. */
  readonly maxNewTokens?: number | undefined;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Answers a question over documents found elsewhere: by another search, or in a vector database. A document that was used
 * before is in the store, whatever the question and its place among others.
 *
 *     const store = openBlockStore({ memory: { budget: 2 ** 28 }, disk: { path: "answers.kv" } });
 *     const found = await answer({ model, store, question: "Who kept the lighthouse?", documents: [{ title: "Brenna Point", text }] });
 *     for await (const { text } of found) process.stdout.write(text);
 *
 * @throws KvspliceError `too_long` if the documents do not fit into the model's context
 */
export async function answer({
  model,
  store,
  question,
  documents,
  grammar,
  link,
  maxNewTokens,
  signal,
}: AnswerOptions): Promise<Generation> {
  const { tokenizer, card } = model;
  const chunks: (readonly number[])[] = [];
  for (const { title = "", text } of documents) {
    const given = { path: "", title, paragraphs: [{ text }] };
    const split = await splitDocument(given, { tokenizer, card, mostTokens: model.contextLength, ...(signal && { signal }) });
    chunks.unshift(...split.map(({ tokens }) => tokens)); // the best one last, the chunks of each in order
  }
  return model.generate(layOut(model, question, chunks), {
    link: link ?? (card.link === undefined ? DEFAULT_LINK : parseLink(card.link)),
    stop: grammar ? [] : (card.stop ?? []),
    ...(store && { store }),
    ...(grammar && { grammar }),
    ...(maxNewTokens !== undefined && { maxNewTokens }),
    ...(signal && { signal }),
  });
}
