import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { pino } from "pino";
import { Records } from "../../chat/index.js";
import { openStore, type Model } from "../../engine/index.js";
import { openCorpus, type Embedder } from "../../rag/index.js";
import { createApp, createService, listen, type Limits, type Service } from "../../server/index.js";

export const ARTICLES = {
  "lighthouse.md": "# Brenna Point\n\nThe lighthouse on Brenna Point was lit for the first time in October 1871. Its first keeper, Oda Halvorsen, kept a diary of every ship that passed for twenty-two years.",
  "ferry.txt": "Marten ferry\n\nThe ferry at Dollis crosses the river Marten in four minutes. It carries six cars and runs from five in the morning until midnight.",
  "bread.md": "# Sourdough\n\nSourdough bread rises by wild yeast and lactic acid bacteria. A starter of flour and water is fed every day.",
};

export type ServingOptions = {
  readonly model: Model;
  readonly embedder: Embedder;
  /** Of an earlier server, to go on from; else a new one with the articles in its corpus. */
  readonly folder?: string;
  readonly limits?: Partial<Limits>;
  readonly apiKeys?: readonly string[];
  readonly corsOrigins?: readonly string[];
  readonly schemasDir?: string;
  readonly chatTokens?: number;
  readonly host?: string;
};

export type Serving = {
  readonly url: string;
  readonly folder: string;
  readonly client: OpenAI;
  readonly service: Service;
  /** What it logged, a parsed line each. */
  readonly logged: Record<string, unknown>[];
  /** Everything but the folder, as when the process ends. */
  stop(): Promise<void>;
};

const MEMORY_bytes = 2 ** 28;

/** A server as `kvsplice serve` has it, over real HTTP on a free port. */
export async function startServing(options: ServingOptions): Promise<Serving> {
  const { model, embedder, apiKeys = [], host = "127.0.0.1" } = options;
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), "kvsplice-serve-"));
  const store = openStore({ memory: { budget: MEMORY_bytes }, disk: { path: folder } });
  const corpus = await openCorpus(folder, { model, store, embedder, create: true });
  if (options.folder === undefined) {
    for (const [name, text] of Object.entries(ARTICLES)) writeFileSync(join(folder, name), text);
    await corpus.precompute(Object.keys(ARTICLES).map((name) => join(folder, name)));
  }
  const records = Records.open(join(folder, "conversations.lmdb"), { maxTokens: options.chatTokens ?? 100_000, maxAge_ms: 86_400_000, forget: (keys) => void store.delete(keys, { keepPinned: true }) });
  const logged: Record<string, unknown>[] = [];
  const service = createService({
    model,
    store,
    corpus,
    corpusName: "articles",
    embedder,
    records,
    apiKeys,
    corsOrigins: options.corsOrigins ?? [],
    ...(options.schemasDir !== undefined && { schemasDir: options.schemasDir }),
    limits: { queue: 64, contextTokens: model.contextLength, request_ms: 60_000, body_bytes: 2 ** 20, ...options.limits },
    log: pino({ base: null }, { write: (line) => void logged.push(JSON.parse(line) as Record<string, unknown>) }),
  });
  const { url, drain } = await listen(createApp(service), service, { host, port: 0 });
  return {
    url,
    folder,
    service,
    logged,
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: apiKeys[0] ?? "none", maxRetries: 0 }),
    async stop() {
      await drain();
      await records.close();
      await corpus.close();
      await store.close();
    },
  };
}

export function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}
