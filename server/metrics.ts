import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { BlockStore, GenerationStats, TieredStore } from "../engine/index.js";
import type { Opened } from "./service.js";
import type { WaitingRoom } from "./waiting-room.js";

/** @property open what is open at the time */
export type MetricsOptions = { readonly waiting: WaitingRoom; readonly open: () => readonly Opened[] };

/** From the first token of a short prompt in memory to a full prefill that had to wait. */
const FIRST_TOKEN_BUCKETS_S = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 25, 50];
const PER_TOKEN_BUCKETS_S = [0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4];

/** The metrics at `/metrics`, listed in docs/server.md. Each server has its own registry, so one process can run several. */
export class Metrics {
  readonly registry = new Registry();
  private readonly requests: Counter<"route" | "status">;
  private readonly firstToken: Histogram;
  private readonly perToken: Histogram;
  private readonly promptTokens: Counter<"source">;
  private readonly answerTokens: Counter;
  private readonly cachedShare: Histogram;
  private readonly hangUps: Counter;
  private readonly answers: Counter<"goals">;

  constructor({ waiting, open }: MetricsOptions) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.requests = new Counter({
      name: "kvsplice_requests_total",
      help: "Requests by route and status.",
      labelNames: ["route", "status"],
      registers,
    });
    this.firstToken = new Histogram({
      name: "kvsplice_time_to_first_token_seconds",
      help: "Time from a request's arrival to the first token of its answer.",
      buckets: FIRST_TOKEN_BUCKETS_S,
      registers,
    });
    this.perToken = new Histogram({
      name: "kvsplice_time_per_output_token_seconds",
      help: "Mean time per token of an answer after the first.",
      buckets: PER_TOKEN_BUCKETS_S,
      registers,
    });
    this.promptTokens = new Counter({
      name: "kvsplice_prompt_tokens_total",
      help: "Prompt tokens: cached (their KV was in the store), encoded (blocks that were missing), computed (fresh tokens).",
      labelNames: ["source"],
      registers,
    });
    this.answerTokens = new Counter({ name: "kvsplice_answer_tokens_total", help: "Tokens of answers.", registers });
    this.cachedShare = new Histogram({
      name: "kvsplice_cached_share",
      help: "Share of a prompt's tokens whose KV was in the store.",
      buckets: [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1],
      registers,
    });
    this.hangUps = new Counter({ name: "kvsplice_hang_ups_total", help: "Answers whose client closed the connection.", registers });
    this.answers = new Counter({
      name: "kvsplice_answers_total",
      help: "Answers within --slo-first-token and --slo-token (held: goodput), outside them (missed), or refused in advance (refused).",
      labelNames: ["goals"],
      registers,
    });
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    gauge("kvsplice_waiting_answers", "Answers waiting for their first token.", () => waiting.size);
    gauge("kvsplice_queued_answers", "Of these, answers waiting for a place in the engine's batch.", () =>
      sum(models(open()), (model) => model.activity.queued),
    );
    gauge("kvsplice_batch_size", "Answers that the engine is computing together.", () =>
      sum(models(open()), (model) => model.activity.running),
    );
    gauge("kvsplice_conversation_tokens", "Tokens whose KV is kept for conversations.", () =>
      sum(open(), ({ records }) => records.keptTokens),
    );
    const queues = () => open().flatMap(({ elsewhere }) => elsewhere ?? []);
    gauge("kvsplice_queue_jobs", "Blocks waiting for a worker, with --encode-queue.", () => sum(queues(), ({ activity }) => activity.jobs));
    gauge("kvsplice_queue_workers", "Workers at that queue.", () => sum(queues(), ({ activity }) => activity.workers));
    this.watch(() => open().flatMap(({ store }) => (isTiered(store) ? [store] : [])));
  }

  private watch(stores: () => readonly TieredStore[]): void {
    const registers = [this.registry];
    new Counter({
      name: "kvsplice_block_reads_total",
      help: "Block reads by the tier that had the block, or none.",
      labelNames: ["tier"],
      registers,
      async collect() {
        const each = await Promise.all(stores().map((store) => store.stats()));
        this.reset();
        for (const { tiers, misses } of each) {
          for (const { tier, hits } of tiers) this.inc({ tier }, hits);
          this.inc({ tier: "none" }, misses);
        }
      },
    });
    new Gauge({
      name: "kvsplice_store_bytes",
      help: "Bytes of blocks by tier.",
      labelNames: ["tier"],
      registers,
      async collect() {
        const each = await Promise.all(stores().map((store) => store.stats()));
        this.reset();
        for (const { tier, bytes } of each.flatMap(({ tiers }) => tiers)) if (bytes !== undefined) this.inc({ tier }, bytes);
      },
    });
    new Counter({
      name: "kvsplice_damaged_blocks_total",
      help: "Damaged blocks, which were encoded again.",
      registers,
      async collect() {
        const each = await Promise.all(stores().map((store) => store.stats()));
        this.reset();
        for (const { damaged } of each) this.inc(damaged);
      },
    });
  }

  request(route: string, status: number): void {
    this.requests.inc({ route, status });
  }

  /** @param good whether it met the goals; undefined if there are none */
  answer(stats: GenerationStats, firstToken_ms: number, good?: boolean): void {
    const { cached_tokens: cached, encoded_tokens, computed_tokens, generated_tokens, per_token_ms } = stats;
    this.firstToken.observe(firstToken_ms / 1000);
    if (generated_tokens > 1) this.perToken.observe(per_token_ms / 1000);
    this.promptTokens.inc({ source: "cached" }, cached);
    this.promptTokens.inc({ source: "encoded" }, encoded_tokens);
    this.promptTokens.inc({ source: "computed" }, computed_tokens);
    this.answerTokens.inc(generated_tokens);
    if (good !== undefined) this.answers.inc({ goals: good ? "held" : "missed" });
    this.cachedShare.observe(cached / promptTokens(stats));
  }

  /** Counts an answer that was refused because it would miss the goals. */
  refuse(): void {
    this.answers.inc({ goals: "refused" });
  }

  hangUp(): void {
    this.hangUps.inc();
  }
}

export function promptTokens({ cached_tokens, encoded_tokens, computed_tokens }: GenerationStats): number {
  return cached_tokens + encoded_tokens + computed_tokens;
}

function sum<T>(values: readonly T[], of: (value: T) => number): number {
  return values.reduce((total, value) => total + of(value), 0);
}

/** Without duplicates: corpora may share a model. */
function models(open: readonly Opened[]) {
  return [...new Set(open.map(({ model }) => model))];
}

export function isTiered(store: BlockStore): store is TieredStore {
  return "stats" in store;
}
