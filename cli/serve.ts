import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Command, InvalidArgumentError } from "commander";
import { pino } from "pino";
import { KvspliceError, type Link, type Model } from "../engine/index.js";
import { loadEmbedder } from "../rag/index.js";
import { type ApiKey, createApp, createServer, type Listening, listen, mustBeGuarded, parseApiKeys, type Shared } from "../server/index.js";
import { type FloorOptions, withFloorOptions } from "./embedder.js";
import { withInterrupt } from "./interrupt.js";
import { linkOf } from "./link.js";
import { type ModelOptions, modelOption, withModelOptions } from "./model.js";
import { offersOf } from "./offers.js";
import { withSharedTier } from "./queue.js";
import { openSharedConversations } from "./shared-conversations.js";
import { type StoreOptions, withStoreOptions } from "./store.js";
import { startTracing } from "./tracing.js";
import { counted } from "./words.js";

type Options = StoreOptions &
  Omit<ModelOptions, "model"> &
  FloorOptions & {
    readonly store?: readonly string[];
    readonly model?: readonly string[];
    readonly schemas?: string;
    readonly host: string;
    readonly port: number;
    readonly apiKey: readonly string[];
    readonly apiKeys?: string;
    readonly corsOrigin: readonly string[];
    readonly link?: Link;
    readonly maxQueue: number;
    readonly maxContext?: number;
    readonly requestTimeout: number;
    readonly maxBody: number;
    readonly chatTokens: number;
    readonly chatDays: number;
    readonly shareConversations?: boolean;
    readonly affinity?: boolean;
    readonly agentPort?: number;
    readonly drain: number;
    readonly encodeQueue?: string;
    readonly fair?: boolean;
    readonly sloFirstToken?: number;
    readonly sloToken?: number;
    readonly strict?: boolean;
    readonly json?: boolean;
  };

const MIB = 2 ** 20;

export function serveCommand(): Command {
  return withFloorOptions(withModelOptions(withStoreOptions(new Command("serve")), modelOption({ several: true })))
    .description("serve an OpenAI-compatible HTTP API (docs/server.md)")
    .option(
      "--store <dir...>",
      "folders that `kvsplice precompute` filled, created if missing. Optional with --schemas or --model: then nothing is stored",
    )
    .option("--host <address>", "address to listen on; any but a local address requires a key", "127.0.0.1")
    .option("--port <n>", "port to listen on; 0 for any free one", wholeNumber(0, 65_535), 8585)
    .option(
      "--api-key <key...>",
      "keys, one of which each request must send (use KVSPLICE_API_KEY to hide it from other users of this machine)",
      [],
    )
    .option(
      "--api-keys <file>",
      'a JSON file of keys with optional limits: [{ "key": "...", "corpora": ["handbook"], "requests_per_minute": 60, "weight": 2 }]',
    )
    .option("--cors-origin <origin...>", "web origins whose pages may send requests, such as https://chat.example; * for any", [])
    .option(
      "--link <how>",
      "how documents are linked unless a request says otherwise: none, auto, or the share of their tokens to recompute, such as 0.15 (docs/linking.md)",
      linkOf,
    )
    .option("--max-queue <n>", "maximum answers waiting for their first token; further requests are refused", wholeNumber(1, 100_000), 64)
    .option(
      "--max-context <tokens>",
      "maximum tokens of a prompt and its answer together (default: the model's context)",
      wholeNumber(64, 2 ** 31),
    )
    .option("--request-timeout <s>", "maximum seconds for an answer", wholeNumber(1, 86_400), 300)
    .option("--max-body <mib>", "maximum MiB of a request's body", wholeNumber(1, 1_024), 4)
    .option("--schemas <dir>", "folder of PML schemas that prompts can name and the playground can open")
    .option(
      "--chat-tokens <n>",
      "maximum tokens of conversations whose KV is kept in the store; the least recently used are removed first",
      wholeNumber(0, 2 ** 40),
      50_000,
    )
    .option("--chat-days <n>", "days after which an unused conversation's KV is removed", wholeNumber(1, 36_500), 7)
    .option("--share-conversations", "let any server with the same --redis continue any conversation (docs/scale.md)")
    .option(
      "--affinity",
      "send x-kvsplice-affinity, which lets a proxy return a conversation to the server that has it in memory; implied by --share-conversations",
    )
    .option(
      "--agent-port <n>",
      "port where HAProxy's agent-check can read how much load this server can take; 0 for any free port",
      wholeNumber(0, 65_535),
    )
    .option(
      "--drain <s>",
      "seconds during which load balancers are told that this server is stopping, before it refuses requests",
      wholeNumber(0, 3_600),
      0,
    )
    .option(
      "--fair",
      "share the machine among keys by the work done for each and their weights in --api-keys, instead of first come, first served",
    )
    .option(
      "--slo-first-token <ms>",
      "refuse requests at once, with 429, if their first token would take longer",
      wholeNumber(1, 86_400_000),
    )
    .option("--slo-token <ms>", "refuse requests at once, with 429, if each further token would take longer", wholeNumber(1, 86_400_000))
    .option(
      "--encode-queue <url>",
      "let workers on this queue encode missing documents when they are faster; blocks are passed through --redis, or through this Redis",
    )
    .option("--strict", "refuse requests with unknown fields, instead of ignoring these fields with a warning")
    .option("--json", "print the server's address as one JSON object")
    .addHelpText(
      "after",
      `
The log goes to standard error, one JSON object per line. Ctrl-C stops the server after running answers have finished; a
second Ctrl-C stops it at once. If OTEL_EXPORTER_OTLP_ENDPOINT is set, traces are sent there (docs/scale.md).

Examples:
  $ kvsplice serve --store handbook.kv
  $ kvsplice serve --store handbook.kv --store wiki.kv --model hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:q8_0
  $ KVSPLICE_API_KEY=secret kvsplice serve --store handbook.kv --host 0.0.0.0 --port 80
  $ curl localhost:8585/v1/chat/completions -H 'content-type: application/json' \\
      -d '{"model": "kvsplice-135m", "corpus": true, "messages": [{"role": "user", "content": "Who kept the lighthouse?"}]}'`,
    )
    .action(serve);
}

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
    return value;
  };
}

async function serve({ store = [], model = [], ...given }: Options): Promise<void> {
  const options = given.encodeQueue === undefined ? given : withSharedTier({ ...given, queue: given.encodeQueue });
  if (store.length === 0 && model.length === 0 && options.schemas === undefined) {
    throw new KvspliceError(
      "bad_argument",
      "Give a store's folder with --store, a folder of PML schemas with --schemas, or a model with --model.",
    );
  }
  const log = pino({ base: null }, pino.destination({ dest: 2, sync: true }));
  const fromEnvironment = process.env["KVSPLICE_API_KEY"];
  const apiKeys = [
    ...[...options.apiKey, ...(fromEnvironment ? [fromEnvironment] : [])].map((key) => ({ key })),
    ...(options.apiKeys === undefined ? [] : readApiKeys(options.apiKeys)),
  ];
  mustBeGuarded(options.host, apiKeys);
  const endTracing = await startTracing();
  await withInterrupt(async (signal) => {
    const embedder = await loadEmbedder();
    const sharedConversations = openSharedConversations({ ...options, store, model }, (message) => log.warn(message));
    const { offers, remove } = await offersOf({ ...options, store, model }, { embedder, log, signal });
    const shared = createServer(
      {
        embedder,
        floor: options.floor,
        link: options.link,
        ...(options.schemas !== undefined && { schemasDir: options.schemas }),
        apiKeys,
        corsOrigins: options.corsOrigin,
        limits: {
          queue: options.maxQueue,
          contextTokens: options.maxContext ?? Infinity,
          request_ms: options.requestTimeout * 1000,
          body_bytes: options.maxBody * MIB,
        },
        strict: options.strict ?? false,
        fair: options.fair ?? false,
        goals: { firstToken_ms: options.sloFirstToken, token_ms: options.sloToken },
        affinity: options.affinity ?? false,
        sharedConversations,
        log,
      },
      offers,
    );
    try {
      const { service, release } = await shared.catalogue.lease(offers[0]!);
      mustHold(options.maxContext, service.model);
      release();
      const { url, agentPort, drain } = await listen(createApp(shared), shared, options);
      process.stdout.write(`${await announce(shared, { url, agentPort }, options)}\n`);
      if (!signal.aborted) await once(signal, "abort");
      log.info("draining");
      await drain(options.drain * 1000);
    } finally {
      await shared.catalogue.close();
      await sharedConversations?.close();
      await embedder.close();
      await endTracing();
      remove();
    }
  });
}

function readApiKeys(file: string): readonly ApiKey[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new KvspliceError(
      "bad_file",
      `The keys in ${file} cannot be read (${(cause as NodeJS.ErrnoException).code}). Name another file with --api-keys.`,
      { cause },
    );
  }
  return parseApiKeys(text, file);
}

function mustHold(maxContext: number | undefined, { name, contextLength }: Model): void {
  if (maxContext !== undefined && maxContext > contextLength) {
    throw new KvspliceError(
      "bad_argument",
      `--max-context is ${maxContext}, but the context of ${name} is ${contextLength}. Use that or less.`,
    );
  }
}

async function announce(
  { catalogue: { offers } }: Shared,
  { url, agentPort }: Pick<Listening, "url"> & { readonly agentPort: number | undefined },
  { json }: Options,
): Promise<string> {
  const each = await Promise.all(offers.map(async ({ model, corpus, totals }) => ({ model, corpus, chunks: (await totals()).chunks })));
  const [{ model, corpus, chunks }] = each as [(typeof each)[0]];
  if (json)
    return JSON.stringify({
      url,
      ...(agentPort !== undefined && { agent_port: agentPort }),
      model,
      corpus,
      chunks,
      ...(each.length > 1 && { offers: each }),
    });
  const names = each.map((offer) =>
    offer.corpus === "" ? offer.model : `${offer.model} and ${counted(offer.chunks, "chunk")} of '${offer.corpus}'`,
  );
  return `kvsplice serves ${names.join(", ")} at ${url}`;
}
