import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { KvspliceError } from "../plan/index.js";
import { parsePrometheusText, type Sample } from "./prometheus-text.js";

/** The response of `/internal/load`. */
const LOAD = z.object({
  status: z.enum(["up", "drain"]),
  /** The load it can take, in percent of its usual load. */
  weight: z.number(),
  /** Answers waiting for their first token, and how many may wait. */
  waiting: z.number(),
  queue: z.number(),
  /** Answers that are being computed together, and those waiting to join them. */
  running: z.number(),
  queued: z.number(),
});

type Load = Readonly<z.infer<typeof LOAD>>;

/** A server's state at one time. */
export type ServerReading = Load & {
  readonly address: string;
  /** At the queue of --encode-queue: workers, and blocks waiting for a worker. */
  readonly workers: number;
  readonly jobs: number;
  /** Since the last reading, or, for the first, since the server's start. Null if nothing was counted. */
  readonly first_token_ms: number | null;
  /** Tokens of answers. Null in the first reading. */
  readonly tokens_per_s: number | null;
  /** Share of prompt tokens whose KV was in the store. */
  readonly cached: number | null;
  /** Share of the blocks read that were in memory. */
  readonly memory: number | null;
  /** Share of answers within --slo-first-token and --slo-token. Refused ones count as outside. */
  readonly goodput: number | null;
};

/** A server that did not answer, or did not answer like kvsplice. */
export type NoReading = { readonly address: string; readonly error: string };

export type ReadingOptions = { readonly apiKey?: string | undefined; readonly interval_ms: number; readonly signal: AbortSignal };

/** The server's counters that are read. */
type Counts = Readonly<
  Record<"at_ms" | "firstTokens" | "firstTokens_s" | "answerTokens" | "cached" | "prompt" | "memory" | "reads" | "held" | "judged", number>
>;

/** A server that does not answer within this time counts as down. */
const ANSWER_MS = 5_000;

/** Reads each server now and every `interval_ms`, until the signal. @throws KvspliceError `bad_argument` for an invalid address */
export async function* readServers(
  addresses: readonly string[],
  options: ReadingOptions,
): AsyncGenerator<readonly (ServerReading | NoReading)[]> {
  const bases = addresses.map(baseOf);
  const before = new Map<string, Counts>();
  while (!options.signal.aborted) {
    const readings = await Promise.all(bases.map((base) => read(base, before, options)));
    if (options.signal.aborted) return;
    yield readings;
    await pause(options.interval_ms, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

function baseOf(address: string): string {
  if (!/^https?:\/\//.test(address) || !URL.canParse(address))
    throw new KvspliceError("bad_argument", `${address} is not a server's address. Give one like http://localhost:8585.`);
  return address.replace(/\/+$/, "");
}

async function read(address: string, before: Map<string, Counts>, { apiKey, signal }: ReadingOptions): Promise<ServerReading | NoReading> {
  try {
    const headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
    const ask = (path: string) =>
      fetch(`${address}${path}`, { headers, signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]) });
    const [loadAnswer, metricsAnswer] = await Promise.all([ask("/internal/load"), ask("/metrics")]);
    const [loadText, metricsText] = await Promise.all([loadAnswer.text(), metricsAnswer.text()]);
    if (metricsAnswer.status === 401)
      return {
        address,
        error: apiKey === undefined ? "requires a key; set KVSPLICE_API_KEY" : "refuses this key; set another one in KVSPLICE_API_KEY",
      };
    const load = loadOf(loadText);
    if (!loadAnswer.ok || !metricsAnswer.ok || load === undefined)
      return { address, error: "answers, but not like kvsplice serve; is this the right port?" };
    const samples = parsePrometheusText(metricsText);
    const [now, last] = [countsOf(samples), before.get(address)];
    before.set(address, now);
    return {
      address,
      ...load,
      workers: sum(samples, "kvsplice_queue_workers"),
      jobs: sum(samples, "kvsplice_queue_jobs"),
      // A restarted server counts from zero.
      ...since(now, last && last.answerTokens <= now.answerTokens && last.prompt <= now.prompt ? last : undefined),
    };
  } catch (error) {
    // Earlier counts mean nothing once the server is back.
    before.delete(address);
    return { address, error: `does not answer (${reasonOf(error)}); is kvsplice serve running there?` };
  }
}

function loadOf(text: string): Load | undefined {
  try {
    return LOAD.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function countsOf(samples: readonly Sample[]): Counts {
  const total = (name: string, labels?: Readonly<Record<string, string>>) => sum(samples, `kvsplice_${name}`, labels);
  return {
    at_ms: performance.now(),
    firstTokens: total("time_to_first_token_seconds_count"),
    firstTokens_s: total("time_to_first_token_seconds_sum"),
    answerTokens: total("answer_tokens_total"),
    cached: total("prompt_tokens_total", { source: "cached" }),
    prompt: total("prompt_tokens_total"),
    memory: total("block_reads_total", { tier: "memory" }),
    reads: total("block_reads_total"),
    held: total("answers_total", { goals: "held" }),
    judged: total("answers_total"),
  };
}

function since(
  now: Counts,
  last: Counts | undefined,
): Pick<ServerReading, "first_token_ms" | "tokens_per_s" | "cached" | "memory" | "goodput"> {
  const grown = (count: keyof Counts) => now[count] - (last?.[count] ?? 0);
  const ratio = (part: keyof Counts, whole: keyof Counts) => (grown(whole) > 0 ? grown(part) / grown(whole) : null);
  const first_s = ratio("firstTokens_s", "firstTokens");
  return {
    first_token_ms: first_s === null ? null : first_s * 1000,
    tokens_per_s: last === undefined ? null : grown("answerTokens") / (grown("at_ms") / 1000),
    cached: ratio("cached", "prompt"),
    memory: ratio("memory", "reads"),
    goodput: ratio("held", "judged"),
  };
}

function sum(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>> = {}): number {
  const meant = samples.filter(
    (sample) => sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  return meant.reduce((total, { value }) => total + value, 0);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return `no answer in ${ANSWER_MS / 1000} s`;
  const cause = error.cause as NodeJS.ErrnoException | undefined;
  return cause?.code ?? cause?.message ?? error.message;
}
