import type { Logger } from "pino";
import type { BlockStore, Model } from "../engine/index.js";
import type { Corpus, Embedder } from "../rag/index.js";
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
  /** Requests carry one of these; where there is none, no key is asked for. */
  readonly apiKeys: readonly string[];
  readonly limits: Limits;
  readonly log: Logger;
};

/** What the routes answer from. */
export type Service = ServiceOptions & { readonly waiting: WaitingRoom };

/** Whoever opened model, store, corpus and embedder closes them. */
export function createService(options: ServiceOptions): Service {
  return { ...options, waiting: new WaitingRoom(options.limits.queue) };
}
