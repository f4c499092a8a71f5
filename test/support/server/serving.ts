import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { pino } from "pino";
import { ConversationRecords, SharedConversations } from "../../../chat/index.js";
import { type Link, type Model, openBlockStore } from "../../../engine/index.js";
import type { Expectation } from "../../../fleet/expectation.js";
import { openElsewhere } from "../../../fleet/index.js";
import { type Embedder, openCorpus } from "../../../rag/index.js";
import { createApp, createServer, type Goals, type Limits, listen, type Offer, type Service, Uploads } from "../../../server/index.js";

export const ARTICLES = {
  "lighthouse.md":
    "# Brenna Point\n\nThe lighthouse on Brenna Point was lit for the first time in October 1871. Its first keeper, Oda Halvorsen, kept a diary of every ship that passed for twenty-two years.",
  "ferry.txt":
    "Marten ferry\n\nThe ferry at Dollis crosses the river Marten in four minutes. It carries six cars and runs from five in the morning until midnight.",
  "bread.md": "# Sourdough\n\nSourdough bread rises by wild yeast and lactic acid bacteria. A starter of flour and water is fed every day.",
};

export type ServingOptions = {
  readonly model: Model;
  readonly embedder: Embedder;
  /** An earlier server's folder, to continue from; by default, a new one with the articles in its corpus. */
  readonly folder?: string;
  readonly limits?: Partial<Limits>;
  readonly apiKeys?: readonly string[];
  readonly corsOrigins?: readonly string[];
  readonly schemasDir?: string;
  readonly chatTokens?: number;
  readonly host?: string;
  readonly strict?: boolean;
  readonly link?: Link;
  /** URL of a Redis that servers share; connections close with the server. */
  readonly redis?: string;
  readonly affinity?: boolean;
  /** A bucket as the store's last tier. */
  readonly objects?: { readonly url: string; readonly endpoint: string };
  /** Queue of workers that encode what questions wait for. */
  readonly encodeQueue?: string;
  /** Estimates of when blocks are ready here and from workers; measured by default. */
  readonly expected?: Expectation;
  readonly fair?: boolean;
  readonly goals?: Goals;
  readonly port?: number;
  readonly agentPort?: number;
  /** Maximum bytes of blocks in memory. */
  readonly memory?: number;
};

export type Serving = {
  readonly url: string;
  readonly agentPort?: number | undefined;
  readonly folder: string;
  readonly client: OpenAI;
  readonly service: Service;
  /** The parsed lines of its log. */
  readonly logged: Record<string, unknown>[];
  /** Resolves when the evicted KV has been deleted. */
  forgotten(): Promise<unknown>;
  /** Closes everything but keeps the folder, as if the process ended. */
  stop(notice_ms?: number): Promise<void>;
};

const MEMORY_bytes = 2 ** 28;

/** A server like that of `kvsplice serve`, over real HTTP on a free port. */
export async function startServing(options: ServingOptions): Promise<Serving> {
  const { model, embedder, apiKeys = [], host = "127.0.0.1", redis } = options;
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), "kvsplice-serve-"));
  const store = openBlockStore({
    memory: { budget: options.memory ?? MEMORY_bytes },
    disk: { path: folder },
    ...(redis !== undefined && { redis: { url: redis, prefix: "kvsplice:" } }),
    ...(options.objects && { objects: options.objects }),
  });
  const corpus = await openCorpus(folder, { model, store, embedder, create: true });
  if (options.folder === undefined) {
    for (const [name, text] of Object.entries(ARTICLES)) writeFileSync(join(folder, name), text);
    await corpus.precompute(Object.keys(ARTICLES).map((name) => join(folder, name)));
  }
  const forgetting: Promise<unknown>[] = [];
  const bounds = { maxTokens: options.chatTokens ?? 100_000, maxAge_ms: 86_400_000 };
  const records = ConversationRecords.open(join(folder, "conversations.lmdb"), {
    ...bounds,
    forget: (keys) => void forgetting.push(store.delete(keys, { keepPinned: true, here: redis !== undefined })),
  });
  const sharedConversations =
    redis === undefined
      ? undefined
      : new SharedConversations({ url: redis, prefix: "kvsplice:chat:", ...bounds, onTrouble: () => undefined });
  const { encodeQueue, expected } = options;
  const elsewhere = encodeQueue === undefined ? undefined : await openElsewhere({ url: encodeQueue, model, store, expected });
  const logged: Record<string, unknown>[] = [];
  const offer: Offer = {
    model: model.name,
    corpus: "articles",
    needs_bytes: () => 0,
    totals: async () => corpus.totals,
    open: async () => ({
      model,
      store,
      corpus,
      records,
      elsewhere,
      uploads: new Uploads(join(folder, "documents")),
      close: async () => undefined,
    }),
  };
  const shared = createServer(
    {
      embedder,
      apiKeys: apiKeys.map((key) => ({ key })),
      strict: options.strict ?? false,
      link: options.link,
      affinity: options.affinity ?? false,
      fair: options.fair ?? false,
      goals: options.goals,
      sharedConversations,
      corsOrigins: options.corsOrigins ?? [],
      ...(options.schemasDir !== undefined && { schemasDir: options.schemasDir }),
      limits: { queue: 64, contextTokens: Infinity, request_ms: 60_000, body_bytes: 2 ** 20, ...options.limits },
      log: pino({ base: null }, { write: (line) => void logged.push(JSON.parse(line) as Record<string, unknown>) }),
    },
    [offer],
  );
  const { service } = await shared.catalogue.lease(offer);
  const { url, agentPort, drain } = await listen(createApp(shared), shared, {
    host,
    port: options.port ?? 0,
    agentPort: options.agentPort,
  });
  return {
    url,
    agentPort,
    folder,
    service,
    logged,
    forgotten: () => Promise.all(forgetting),
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: apiKeys[0] ?? "none", maxRetries: 0 }),
    async stop(notice_ms) {
      await drain(notice_ms);
      await elsewhere?.close();
      await sharedConversations?.close();
      await records.close();
      await corpus.close();
      await store.close();
    },
  };
}

export function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}
