import type { GeneratedToken, Generation, GenerationStats, Plan } from "../../engine/index.js";

/** A chunk that was found for a question. */
export type Source = {
  /** By which prompts and people call it, `forth-bridge.md#2`; `corpus.chunk(ref)` looks it up. */
  readonly ref: string;
  /** Absolute path of its file. */
  readonly path: string;
  readonly title: string;
  /** Page that it begins on, from 1, where its file has pages. */
  readonly page?: number | undefined;
  /** Sum of reciprocal ranks: to compare the sources of one question, not of two. */
  readonly score: number;
  readonly text: string;
  /** Token ids of the rendered chunk: its block's tokens. */
  readonly tokens: readonly number[];
};

export type AnswerStats = GenerationStats & {
  /** From the question to its plan: embedding, search, fusion. */
  readonly retrieve_ms: number;
};

/** An answer while it is written, as `Generation` has it. Its sources are known before the first token. */
export class Answer implements Generation {
  constructor(
    readonly sources: readonly Source[],
    readonly plan: Plan,
    private readonly retrieve_ms: number,
    private readonly generation: Generation,
  ) {}

  [Symbol.asyncIterator](): AsyncIterator<GeneratedToken> {
    return this.generation[Symbol.asyncIterator]();
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.generation[Symbol.asyncDispose]();
  }

  get begun(): Promise<void> {
    return this.generation.begun;
  }

  get text(): Promise<string> {
    return this.generation.text;
  }

  /** The engine's times begin after retrieval. */
  get stats(): Promise<AnswerStats> {
    return this.generation.stats.then((stats) => ({ ...stats, retrieve_ms: this.retrieve_ms }));
  }
}
