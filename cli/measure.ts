import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import {
  DEFAULT_LINK,
  type GenerationStats,
  isBlockPiece,
  KvspliceError,
  type Link,
  linkText,
  type Model,
  NO_LINK,
  openBlockStore,
  type Plan,
  parseLink,
  tokensOf,
  withoutCache,
} from "../engine/index.js";
import { layOut, renderDocument } from "../rag/index.js";

export type MeasureOptions = {
  readonly documents: number;
  /** Tokens per document. */
  readonly tokens: number;
  /** Tokens per answer. */
  readonly answer: number;
  /** Answers per way, except for full prefill, which runs once. */
  readonly runs: number;
  readonly full: boolean;
  readonly signal: AbortSignal;
  readonly onStep: (step: string) => void;
};

/** One way of answering over the documents. Times are medians of the runs. */
export type MeasuredWay = {
  readonly way: string;
  readonly first_token_ms: number;
  readonly per_token_ms: number;
  /** Before the first token. */
  readonly computed_tokens: number;
};

export type Measured = {
  readonly prompt: { readonly documents: number; readonly document_tokens: number; readonly tokens: number };
  readonly encode: { readonly tokens: number; readonly ms: number; readonly tokens_per_s: number };
  readonly ways: readonly MeasuredWay[];
  /** Resident memory of this process while answering: weights, KV and everything else. */
  readonly memory_bytes: number;
};

const QUESTION = "Summarise each of the documents in two sentences.";

/** Encodes new documents, then answers a question over them in each way. */
export async function measureModel(model: Model, options: MeasureOptions): Promise<Measured> {
  const { documents: count, tokens, answer, runs, full, signal, onStep } = options;
  const documents = documentsFor(model, count, tokens);
  // The KV of recent prompts and answers is kept, so each run has its documents in a different order.
  const planOf = (run: number) => layOut(model, QUESTION, [...documents.slice(run % count), ...documents.slice(0, run % count)]);
  const plan = planOf(0);
  const store = openBlockStore({ memory: { budget: STORE_BYTES } });
  try {
    onStep(`Encoding ${count} documents of ${tokens} tokens`);
    const sources = plan.pieces.filter(isBlockPiece).map(({ block }) => block);
    const start = performance.now();
    await Promise.all(sources.map(async (source) => store.put(model.keyOf(source), await model.encode(source, { signal }))));
    const ms = performance.now() - start;
    const encoded = sources.reduce((sum, { tokens, after }) => sum + tokens.length + (after?.length ?? 0), 0);

    let memory = 0;
    const measure = async (way: string, plans: readonly Plan[], link: Link): Promise<MeasuredWay> => {
      onStep(`Answering, ${way}`);
      const stats: GenerationStats[] = [];
      for (const plan of plans) {
        await using generation = model.generate(plan, { store, link, maxNewTokens: answer, temperature: 0, signal });
        stats.push(await generation.stats);
        memory = Math.max(memory, process.memoryUsage.rss());
      }
      const of = (name: "first_token_ms" | "per_token_ms" | "computed_tokens") => median(stats.map((each) => each[name]));
      return { way, first_token_ms: of("first_token_ms"), per_token_ms: of("per_token_ms"), computed_tokens: of("computed_tokens") };
    };

    await measure("warm-up", [planOf(runs)], NO_LINK); // the first answer allocates the buffers
    const link = model.card.link === undefined ? DEFAULT_LINK : parseLink(model.card.link);
    const orders = Array.from({ length: runs }, (_, run) => planOf(run));
    const ways = [await measure("spliced", orders, NO_LINK)];
    if (link.kind !== "none") ways.push(await measure(`--link ${linkText(link)}`, orders, link));
    if (full) ways.push(await measure("full prefill", [withoutCache(plan)], NO_LINK));
    return {
      prompt: { documents: count, document_tokens: tokens, tokens: tokensOf(plan).length },
      encode: { tokens: encoded, ms, tokens_per_s: (1000 * encoded) / ms },
      ways,
      memory_bytes: memory,
    };
  } finally {
    await store.close();
  }
}

const STORE_BYTES = 2 ** 32;

/** Documents of exactly `tokens` tokens, each with a different beginning, from the articles that come with kvsplice. */
function documentsFor({ tokenizer, card, contextLength }: Model, count: number, tokens: number): number[][] {
  const needed = count * tokens + card.maxAnswerTokens;
  if (needed > contextLength)
    throw new KvspliceError(
      "too_long",
      `${count} documents of ${tokens} tokens and an answer do not fit into ${contextLength} positions. Use fewer (--documents) or shorter ones (--tokens).`,
    );
  const words = articles();
  return Array.from({ length: count }, (_, i) => {
    const document: number[] = [];
    for (let from = i * 180; document.length < tokens; from += 200) {
      const text = Array.from({ length: 200 }, (_, word) => words[(from + word) % words.length]).join(" ");
      document.push(...tokenizer.encode(document.length === 0 ? renderDocument(card, `Document ${i + 1}`, text) : ` ${text}`));
    }
    return document.slice(0, tokens);
  });
}

function articles(): string[] {
  const folder = join(dirname(createRequire(import.meta.url).resolve("kvsplice/package.json")), "examples/corpus");
  return readdirSync(folder)
    .filter((name) => name.endsWith(".md"))
    .sort()
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split(/\s+/).filter(Boolean));
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}
