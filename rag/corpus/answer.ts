import { type GeneratedToken, type Generation, type GenerationStats, type Plan, WhenAwaited } from "../../engine/index.js";
import type { Fields } from "../fields.js";

/** A chunk found for a question. */
export type Source = {
  /** Its name in prompts and output, such as `forth-bridge.md#2`; `corpus.chunk(ref)` looks it up. */
  readonly ref: string;
  /** Absolute path of its file. */
  readonly path: string;
  readonly title: string;
  /** Page on which it begins, from 1, if its file has pages. */
  readonly page?: number | undefined;
  /** Its document's metadata: front matter, the fields of a record ... */
  readonly fields?: Fields | undefined;
  /** The document's own date, or when its file was last written: `2024-05-01`, or with the time. */
  readonly date?: string | undefined;
  /** How well it fits by meaning and words; comparable only between sources of the same question. */
  readonly score: number;
  readonly text: string;
  /** Token ids of the rendered chunk: its block's tokens. */
  readonly tokens: readonly number[];
};

/** Timings and counts of an answer, in ms and tokens. */
export type AnswerStats = GenerationStats & {
  /** From the question to its plan: embedding, search, fusion. */
  readonly retrieve_ms: number;
};

/** An answer while it is being generated, like `Generation`. Its sources are known before the first token. */
export class CorpusAnswer implements Generation {
  /** The engine's times begin after retrieval. */
  readonly stats: Promise<AnswerStats>;

  constructor(
    readonly sources: readonly Source[],
    readonly plan: Plan,
    retrieve_ms: number,
    /** Score of the best chunk, whether it is a source or below the floor. */
    readonly best_score: number,
    private readonly generation: Generation,
  ) {
    this.stats = new WhenAwaited(async () => ({ ...(await generation.stats), retrieve_ms }));
  }

  /** Whether the corpus has something that may answer the question; otherwise there are no sources, and nothing is generated. */
  get found(): boolean {
    return this.sources.length > 0;
  }

  /** The answer's tokens as they are generated. Leaving the loop early ends the answer. */
  [Symbol.asyncIterator](): AsyncIterator<GeneratedToken> {
    return this.generation[Symbol.asyncIterator]();
  }

  /** Ends the answer if it is still running, and waits for that. */
  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.generation[Symbol.asyncDispose]();
  }

  get begun(): Promise<void> {
    return this.generation.begun;
  }

  get text(): Promise<string> {
    return this.generation.text;
  }
}

const NO_TIME = { queue_ms: 0, fetch_ms: 0, splice_ms: 0, look_ms: 0, first_token_ms: 0, per_token_ms: 0, total_ms: 0, elsewhere_ms: 0 };
const NO_TOKENS = {
  cached_tokens: 0,
  computed_tokens: 0,
  recomputed_tokens: 0,
  encoded_tokens: 0,
  elsewhere_tokens: 0,
  generated_tokens: 0,
  drafted_tokens: 0,
  accepted_tokens: 0,
};

/** What is generated if nothing was found. */
export function nothing(): Generation {
  return {
    begun: Promise.resolve(),
    text: Promise.resolve(""),
    stats: Promise.resolve({ ...NO_TIME, ...NO_TOKENS, warnings: [], finish: "end" }),
    async *[Symbol.asyncIterator]() {},
    [Symbol.asyncDispose]: async () => undefined,
  };
}
