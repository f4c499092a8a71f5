import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { BlockStore, GenerationStats, Model } from "../engine/index.js";
import type { WaitingRoom } from "./waiting-room.js";

export type MetricsOptions = { readonly model: Model; readonly store: BlockStore; readonly waiting: WaitingRoom };

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

  constructor({ model, store, waiting }: MetricsOptions) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.requests = new Counter({ name: "kvsplice_requests_total", help: "Requests by route and status.", labelNames: ["route", "status"], registers });
    this.firstToken = new Histogram({ name: "kvsplice_time_to_first_token_seconds", help: "From a request's arrival to the first token of its answer.", buckets: FIRST_TOKEN_BUCKETS_S, registers });
    this.perToken = new Histogram({ name: "kvsplice_time_per_output_token_seconds", help: "An answer's mean time per token after the first.", buckets: PER_TOKEN_BUCKETS_S, registers });
    this.promptTokens = new Counter({ name: "kvsplice_prompt_tokens_total", help: "Tokens of prompts: cached (their KV was in the store), encoded (blocks that were missing), computed (fresh tokens).", labelNames: ["source"], registers });
    this.answerTokens = new Counter({ name: "kvsplice_answer_tokens_total", help: "Tokens of answers.", registers });
    this.cachedShare = new Histogram({ name: "kvsplice_cached_share", help: "Share of a prompt's tokens whose KV was in the store.", buckets: [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1], registers });
    this.hangUps = new Counter({ name: "kvsplice_hang_ups_total", help: "Answers whose client hung up.", registers });
    new Gauge({
      name: "kvsplice_waiting_answers",
      help: "Answers that wait for their first token.",
      registers,
      collect() {
        this.set(waiting.size);
      },
    });
    void model;
    void store;
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
