import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { pino } from "pino";
import { Records } from "../chat/index.js";
import { KvspliceError } from "../engine/index.js";
import { loadEmbedder, openCorpus } from "../rag/index.js";
import { createApp, createService, listen, mustBeGuarded } from "../server/index.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { openStore, withStoreOptions, type StoreOptions } from "./store.js";

type Options = StoreOptions & ModelOptions & {
  readonly store?: string;
  readonly schemas?: string;
  readonly host: string;
  readonly port: number;
  readonly apiKey: readonly string[];
  readonly corsOrigin: readonly string[];
  readonly maxQueue: number;
  readonly maxContext?: number;
  readonly requestTimeout: number;
  readonly maxBody: number;
  readonly chatTokens: number;
  readonly chatDays: number;
  readonly json?: boolean;
};

const MIB = 2 ** 20;
const DAY_ms = 86_400_000;

export function serveCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("serve")))
    .description("answer over HTTP, in the words of OpenAI's API (docs/server.md describes it)")
    .option("--store <dir>", "folder that `kvsplice precompute` filled; made where there is none. With --schemas it may be left out: then nothing is kept")
    .option("--host <address>", "address to listen on; others than this machine's own need a key", "127.0.0.1")
    .option("--port <n>", "port to listen on; 0 for any free one", wholeNumber(0, 65_535), 8585)
    .option("--api-key <key...>", "keys, of which requests must carry one (KVSPLICE_API_KEY is not seen by others of this machine)", [])
    .option("--cors-origin <origin...>", "web origins whose pages may ask, such as https://chat.example; * for any", [])
    .option("--max-queue <n>", "answers that may wait for their first token; one more is refused", wholeNumber(1, 100_000), 64)
    .option("--max-context <tokens>", "tokens of a prompt and its answer (default: the model's context)", wholeNumber(64, 2 ** 31))
    .option("--request-timeout <s>", "seconds that an answer may take", wholeNumber(1, 86_400), 300)
    .option("--max-body <mib>", "MiB that a request's body may have", wholeNumber(1, 1_024), 4)
    .option("--schemas <dir>", "folder of PML schemas that prompts may name, and the playground open")
    .option("--chat-tokens <n>", "tokens of conversations whose KV is kept in the store; those used longest ago go first", wholeNumber(0, 2 ** 40), 50_000)
    .option("--chat-days <n>", "days after which an unused conversation's KV goes", wholeNumber(1, 36_500), 7)
    .option("--json", "print where it listens as one JSON object")
    .addHelpText(
      "after",
      `
Its log goes to standard error, one JSON object a line. Ctrl-C lets running answers end; a second one does not.

Examples:
  $ kvsplice serve --store handbook.kv
  $ KVSPLICE_API_KEY=secret kvsplice serve --store handbook.kv --host 0.0.0.0 --port 80
  $ curl localhost:8585/v1/chat/completions -H 'content-type: application/json' \\
      -d '{"model": "kvsplice-135m", "corpus": true, "messages": [{"role": "user", "content": "Who kept the lighthouse?"}]}'`,
    )
    .action(serve);
}

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
    return value;
  };
}

async function serve(options: Options): Promise<void> {
  if (options.store !== undefined) return serveFrom({ ...options, store: options.store });
  if (options.schemas === undefined) throw new KvspliceError("bad_argument", "Name a folder for what is kept with --store, or prompts' schemas with --schemas.");
  const store = mkdtempSync(join(tmpdir(), "kvsplice-serve-"));
  try {
    await serveFrom({ ...options, store });
  } finally {
    rmSync(store, { recursive: true, force: true });
  }
}

async function serveFrom(options: Options & { readonly store: string }): Promise<void> {
  const log = pino({ base: null }, pino.destination({ dest: 2, sync: true }));
  const fromEnvironment = process.env["KVSPLICE_API_KEY"];
  const apiKeys = [...options.apiKey, ...(fromEnvironment ? [fromEnvironment] : [])];
  mustBeGuarded(options.host, apiKeys);
  const choice = await chooseModel(options, options.store);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal }, async (model) => {
      const contextTokens = options.maxContext ?? model.contextLength;
      if (contextTokens > model.contextLength) {
        throw new KvspliceError("bad_argument", `--max-context is ${contextTokens}; ${model.name} has ${model.contextLength}. Choose that or less.`);
      }
      const store = openStore(options.store, options, (message) => log.warn(message));
      const embedder = await loadEmbedder();
      const corpus = await openCorpus(options.store, { model, modelSource: choice.source, store, embedder, create: true });
      const records = Records.open(join(options.store, "conversations.lmdb"), {
        maxTokens: options.chatTokens,
        maxAge_ms: options.chatDays * DAY_ms,
        forget: (keys) => void store.delete(keys, { keepPinned: true }).catch((error: unknown) => log.warn({ err: error }, "KV of old conversations could not be deleted")),
      });
      try {
        await corpus.ready();
        const service = createService({
          model,
          store,
          corpus,
          corpusName: basename(resolve(options.store)).replace(/\.kv$/, ""),
          embedder,
          records,
          ...(options.schemas !== undefined && { schemasDir: options.schemas }),
          apiKeys,
          corsOrigins: options.corsOrigin,
          limits: { queue: options.maxQueue, contextTokens, request_ms: options.requestTimeout * 1000, body_bytes: options.maxBody * MIB },
          log,
        });
        const { url, drain } = await listen(createApp(service), service, options);
        const { chunks } = corpus.totals;
        const line = `kvsplice serves ${model.name} and ${chunks} chunks of '${service.corpusName}' at ${url}`;
        process.stdout.write(`${options.json ? JSON.stringify({ url, model: model.name, corpus: service.corpusName, chunks }) : line}\n`);
        if (!signal.aborted) await once(signal, "abort");
        log.info("draining");
        await drain();
      } finally {
        await records.close();
        await corpus.close();
        await embedder.close();
        await store.close();
      }
    }),
  );
}
