import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { type ConversationRecords, Conversations, type SharedConversations } from "../chat/index.js";
import type { BlockStore, Elsewhere, Link, Model } from "../engine/index.js";
import { type Corpus, type Embedder, linkTokensOf } from "../rag/index.js";
import type { ApiKey } from "./api-key.js";
import { Catalogue, type Offer } from "./catalogue.js";
import { clientStore } from "./client-store.js";
import { isTiered, Metrics } from "./metrics.js";
import { Schemas } from "./schemas.js";
import { type Goals, ServiceLevel } from "./service-level.js";
import type { Uploads } from "./uploads.js";
import { WaitingRoom } from "./waiting-room.js";

/** Limits on what a server accepts from its clients. */
export type Limits = {
  /** Maximum answers waiting for their first token; more are refused with 429. */
  readonly queue: number;
  /** Maximum tokens of a prompt and its answer together; Infinity for the model's whole context. */
  readonly contextTokens: number;
  readonly request_ms: number;
  readonly body_bytes: number;
};

export type ServerOptions = {
  readonly embedder: Embedder;
  /** `RetrieveOptions.floor` for requests that do not set it; the embedder's by default. */
  readonly floor?: number | false | undefined;
  /** How documents and modules are linked unless a request sets it; by default, documents as their corpus says, and modules not at all. */
  readonly link?: Link | undefined;
  /** Folder of PML schemas to serve; none by default. */
  readonly schemasDir?: string;
  /** Requests must carry one of these. If empty, no key is needed. */
  readonly apiKeys: readonly ApiKey[];
  /** Web origins whose pages may send requests: `https://chat.example`, or `*` for any. */
  readonly corsOrigins: readonly string[];
  readonly limits: Limits;
  /** Whether to refuse unknown fields of requests instead of ignoring them; false by default. */
  readonly strict?: boolean;
  /** Whether keys share the machine by the work done for each (`ApiKey.weight`) instead of first come, first served; false by default. */
  readonly fair?: boolean;
  /** Goals for answers. Requests that would miss them are refused. None by default. */
  readonly goals?: Goals | undefined;
  /** Whether responses carry a token by which proxies return a conversation's next turn here; false by default. */
  readonly affinity?: boolean;
  /** Conversation records shared among servers; by default, each server only knows its own. Implies `affinity`. */
  readonly sharedConversations?: SharedConversations | undefined;
  readonly log: Logger;
};

/** What all requests share, whatever their model. */
export type Shared = ServerOptions & {
  readonly catalogue: Catalogue;
  readonly waiting: WaitingRoom;
  readonly metrics: Metrics;
  readonly level?: ServiceLevel;
  /** Whether the server is shutting down. */
  readonly draining: () => boolean;
  /** Marks the server as shutting down. */
  readonly drain: () => void;
};

/** A model with a corpus, open. */
export type Opened = {
  readonly model: Model;
  readonly store: BlockStore;
  readonly corpus: Corpus;
  /** Records of conversations. */
  readonly records: ConversationRecords;
  /** Workers that encode what a question waits for. */
  readonly elsewhere?: Elsewhere | undefined;
  /** Where documents from clients are stored. */
  readonly uploads: Uploads;
};

/** Everything needed to answer a request. */
export type Service = Shared &
  Opened & {
    /** The name that requests use for the corpus. */
    readonly corpusName: string;
    readonly conversations: Conversations;
    readonly schemas?: Schemas;
  };

/** @param offers what it answers from, opened on first use; the first is used for requests that name none */
export function createServer(options: ServerOptions, offers: readonly Offer[]): Shared {
  const waiting = new WaitingRoom(options.limits.queue);
  const catalogue: Catalogue = new Catalogue(offers, (opened, name) => serviceOf(shared, opened, name), {
    onUnload: ({ model, corpus }) => options.log.info({ model, corpus }, "unloaded: memory is short"),
  });
  let draining = false;
  const affinity = options.affinity === true || options.sharedConversations !== undefined;
  const { goals } = options;
  const level = goals && (goals.firstToken_ms ?? goals.token_ms) !== undefined ? new ServiceLevel(goals) : undefined;
  const shared: Shared = {
    ...options,
    ...(level && { level }),
    affinity,
    waiting,
    catalogue,
    metrics: new Metrics({ waiting, open: () => catalogue.open }),
    draining: () => draining,
    drain: () => void (draining = true),
  };
  return shared;
}

/** Maximum wait for KV to be shared before the turn is announced to other servers. If it takes longer, they compute it again. */
const SETTLE_MS = 3_000;

async function settledWithin(store: BlockStore, ms: number): Promise<void> {
  if (!isTiered(store)) return;
  await Promise.race([store.flush().catch(() => undefined), sleep(ms, undefined, { ref: false })]); // the store reports the problem itself
}

function serviceOf(shared: Shared, opened: Opened, corpusName: string): Service {
  const { model, store, records, corpus } = opened;
  const { schemasDir, log, sharedConversations } = shared;
  const { tokenizer, chat, contextLength } = model;
  const limits = { ...shared.limits, contextTokens: Math.min(shared.limits.contextTokens, contextLength) };
  const language = { tokenizer, chat, contextLength, linkTokens: linkTokensOf(model) };
  return {
    ...shared,
    ...opened,
    corpusName,
    limits,
    store: clientStore(store, { records, shared: sharedConversations, isHeld: (key) => corpus.holds(key) }),
    conversations: new Conversations({
      tokenizer,
      chat,
      keyOf: (source) => model.keyOf(source),
      contextTokens: limits.contextTokens,
      records,
      shared: sharedConversations,
      settled: () => settledWithin(store, SETTLE_MS),
    }),
    ...(schemasDir !== undefined && { schemas: new Schemas(schemasDir, language, (problem) => log.warn(problem)) }),
  };
}
