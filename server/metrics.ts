import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Records } from "../chat/index.js";
import type { BlockStore, GenerationStats, Model, TieredStore } from "../engine/index.js";
import type { WaitingRoom } from "./waiting-room.js";

export type MetricsOptions = { readonly model: Pick<Model, "activity">; readonly store: BlockStore; readonly waiting: WaitingRoom; readonly records: Records };

/** From the first token of a short prompt in memory to a full prefill that waited. */
const FIRST_TOKEN_BUCKETS_S = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 25, 50];
const PER_TOKEN_BUCKETS_S = [0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4];

/** What Prometheus reads at `/metrics`; docs/server.md lists them. One registry a server, so that a process may have several. */
export class Metrics {
  readonly registry = new Registry();
  private readonly requests: Counter<"route" | "status">;
  private readonly firstToken: Histogram;
  private readonly perToken: Histogram;
  private readonly promptTokens: Counter<"source">;
  private readonly answerTokens: Counter;
  private readonly cachedShare: Histogram;
  private readonly hangUps: Counter;

  constructor({ model, store, waiting, records }: MetricsOptions) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.requests = new Counter({ name: "kvsplice_requests_total", help: "Requests by route and status.", labelNames: ["route", "status"], registers });
    this.firstToken = new Histogram({ name: "kvsplice_time_to_first_token_seconds", help: "From a request's arrival to the first token of its answer.", buckets: FIRST_TOKEN_BUCKETS_S, registers });
    this.perToken = new Histogram({ name: "kvsplice_time_per_output_token_seconds", help: "An answer's mean time per token after the first.", buckets: PER_TOKEN_BUCKETS_S, registers });
    this.promptTokens = new Counter({ name: "kvsplice_prompt_tokens_total", help: "Tokens of prompts: cached (their KV was in the store), encoded (blocks that were missing), computed (fresh tokens).", labelNames: ["source"], registers });
    this.answerTokens = new Counter({ name: "kvsplice_answer_tokens_total", help: "Tokens of answers.", registers });
    this.cachedShare = new Histogram({ name: "kvsplice_cached_share", help: "Share of a prompt's tokens whose KV was in the store.", buckets: [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1], registers });
    this.hangUps = new Counter({ name: "kvsplice_hang_ups_total", help: "Answers whose client hung up.", registers });
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    gauge("kvsplice_waiting_answers", "Answers that wait for their first token.", () => waiting.size);
    gauge("kvsplice_queued_answers", "Of these, answers that wait for a place in the engine's batch.", () => model.activity.queued);
    gauge("kvsplice_batch_size", "Answers that the engine computes together.", () => model.activity.running);
    gauge("kvsplice_conversation_tokens", "Tokens whose KV is kept for conversations.", () => records.keptTokens);
    if (isTiered(store)) this.watch(store);
  }

  private watch(store: TieredStore): void {
    const registers = [this.registry];
    new Counter({
      name: "kvsplice_block_reads_total",
      help: "Reads of blocks, by the tier that had them; none where no tier had.",
      labelNames: ["tier"],
      registers,
      async collect() {
        const { tiers, misses } = await store.stats();
        this.reset();
        for (const { tier, hits } of tiers) this.inc({ tier }, hits);
        this.inc({ tier: "none" }, misses);
      },
    });
    new Gauge({
      name: "kvsplice_store_bytes",
      help: "Bytes of blocks by tier.",
      labelNames: ["tier"],
      registers,
      async collect() {
        for (const { tier, bytes } of (await store.stats()).tiers) this.set({ tier }, bytes);
      },
    });
    new Counter({
      name: "kvsplice_damaged_blocks_total",
      help: "Blocks that did not verify; they were encoded again.",
      registers,
      async collect() {
        this.reset();
        this.inc((await store.stats()).damaged);
      },
    });
  }

  request(route: string, status: number): void {
    this.requests.inc({ route, status });
  }

  answer(stats: GenerationStats, firstToken_ms: number): void {
    const { encoded_tokens, computed_tokens, generated_tokens, per_token_ms } = stats;
    const cached = cachedTokens(stats);
    this.firstToken.observe(firstToken_ms / 1000);
    if (generated_tokens > 1) this.perToken.observe(per_token_ms / 1000);
    this.promptTokens.inc({ source: "cached" }, cached);
    this.promptTokens.inc({ source: "encoded" }, encoded_tokens);
    this.promptTokens.inc({ source: "computed" }, computed_tokens);
    this.answerTokens.inc(generated_tokens);
    this.cachedShare.observe(cached / promptTokens(stats));
  }

  hangUp(): void {
    this.hangUps.inc();
  }
}

/** Tokens whose KV was there; those of blocks that were encoded on the way were not. */
export function cachedTokens({ cached_tokens, encoded_tokens }: GenerationStats): number {
  return Math.max(0, cached_tokens - encoded_tokens);
}

export function promptTokens({ cached_tokens, computed_tokens }: GenerationStats): number {
  return cached_tokens + computed_tokens;
}

function isTiered(store: BlockStore): store is TieredStore {
  return "stats" in store;
}
