import type { Logger } from "pino";
import { Conversations, type Records } from "../chat/index.js";
import type { BlockStore, Model } from "../engine/index.js";
import { type Corpus, type Embedder, linkTokensOf } from "../rag/index.js";
import { clientStore } from "./client-store.js";
import { Metrics } from "./metrics.js";
import { Schemas } from "./schemas.js";
import { WaitingRoom } from "./waiting-room.js";

/** What a server takes from its clients at most. */
export type Limits = {
  /** Answers that may wait for their first token; one more is refused with 429. */
  readonly queue: number;
  /** Tokens of a prompt and its answer together: at most the model's context. */
  readonly contextTokens: number;
  readonly request_ms: number;
  readonly body_bytes: number;
};

export type ServiceOptions = {
  readonly model: Model;
  readonly store: BlockStore;
  readonly corpus: Corpus;
  /** What requests call the corpus. */
  readonly corpusName: string;
  readonly embedder: Embedder;
  /** What is known of conversations. */
  readonly records: Records;
  /** Folder of the PML schemas that are served. */
  readonly schemasDir?: string;
  /** Requests carry one of these; where there is none, no key is asked for. */
  readonly apiKeys: readonly string[];
  /** Web origins whose pages may ask: `https://chat.example`, or `*` for any. */
  readonly corsOrigins: readonly string[];
  readonly limits: Limits;
  readonly log: Logger;
};

/** What the routes answer from. */
export type Service = ServiceOptions & {
  readonly waiting: WaitingRoom;
  readonly metrics: Metrics;
  readonly conversations: Conversations;
  readonly schemas?: Schemas;
};

/** Whoever opened model, store, corpus, embedder and records closes them. */
export function createService(options: ServiceOptions): Service {
  const { model, store, records, corpus, limits, schemasDir, log } = options;
  const { tokenizer, chat, contextLength } = model;
  const language = { tokenizer, chat, contextLength, linkTokens: linkTokensOf(model) };
  const waiting = new WaitingRoom(limits.queue);
  return {
    ...options,
    store: clientStore(store, records, (key) => corpus.holds(key)),
    waiting,
    metrics: new Metrics({ model, store, waiting, records }),
    conversations: new Conversations({ tokenizer, chat, keyOf: (source) => model.keyOf(source), contextTokens: limits.contextTokens, records }),
    ...(schemasDir !== undefined && { schemas: new Schemas(schemasDir, language, (problem) => log.warn(problem)) }),
  };
}
