import type { Work } from "./lifetime.js";
import type { Link } from "./link/index.js";
import { cancelledError, KvspliceError } from "../plan/index.js";
import type { SamplingOptions } from "./sampling.js";
import type { BlockKey, BlockStore } from "./store/store.js";

export type GenerateOptions = SamplingOptions & {
  /** Where blocks are looked up, and put when they were missing. Without one, every block is encoded on the way. */
  readonly store?: BlockStore;
  /** The model card's `maxAnswerTokens` when left out. */
  readonly maxNewTokens?: number;
  /** Texts that end the answer; they are not part of it. */
  readonly stop?: readonly string[];
  /**
   * Guesses up to so many tokens at a time from what the prompt says after the answer's last ones, and computes them
   * with it: each that the model chooses as well takes no pass of its own. The answer is the same; 0 (none) when left out.
   */
  readonly promptLookup?: number;
  /** How the plan's loose blocks are linked; not at all when left out. */
  readonly link?: Link;
  /** Told of the logits `[vocabulary]` that each token is drawn from, the end token's too. */
  readonly onLogits?: (logits: Float32Array) => void;
  /** Tells each token's log probability, and those of as many likeliest tokens in its place. */
  readonly logprobs?: number;
  /**
   * Names the KV of the answer's tokens, which is then put into the store as that of a `keep` piece; called once, when
   * the answer has ended, with the tokens whose KV exists (the last one's may not).
   */
  readonly keepAnswer?: (tokens: readonly number[]) => BlockKey | undefined;
  /** Ends the answer with KvspliceError `cancelled`, at the latest after the running pass. */
  readonly signal?: AbortSignal;
};

/** What an answer cost. Times in milliseconds from its beginning, tokens by how they came to be. */
export type GenerationStats = {
  /** Until a place among the running answers was free. */
  readonly queue_ms: number;
  /** Getting the blocks' KV out of the store, encoding of missing ones included. */
  readonly fetch_ms: number;
  /** Re-encoding K at the new positions and laying the blocks side by side. */
  readonly splice_ms: number;
  /** Finding out what the question looks at; 0 where the link does not depend on it. */
  readonly look_ms: number;
  /** From the beginning to the first token: fetch, splice, look, and the pass over the fresh tokens. */
  readonly first_token_ms: number;
  /** Mean over the tokens after the first; 0 where there was none. */
  readonly per_token_ms: number;
  readonly total_ms: number;
  readonly cached_tokens: number;
  readonly computed_tokens: number;
  /** Of the computed ones, those of loose blocks that were computed again. */
  readonly recomputed_tokens: number;
  readonly generated_tokens: number;
  /** Tokens that were guessed from the prompt, and those of them that the model chose. */
  readonly drafted_tokens: number;
  readonly accepted_tokens: number;
  /** What ended the answer: the model's end token, the limit of tokens (or of the context), or a stop text. */
  readonly finish: "end" | "length" | "stop";
  /** Tokens of blocks that the store did not have and that were encoded on the way. */
  readonly encoded_tokens: number;
  /** What went wrong without harm to the answer, such as a block that could not be stored. */
  readonly warnings: readonly string[];
};

export type GeneratedToken = {
  /** -1 for what is left at the end of an answer that stops within a character. */
  readonly id: number;
  /** Text that this token completes; empty while a character is not whole, or may begin a stop text. */
  readonly text: string;
  /** Natural logarithm of the token's probability, where asked for. */
  readonly logprob?: number;
  /** The likeliest tokens in its place, the likeliest first, where asked for. */
  readonly top?: readonly { readonly id: number; readonly text: string; readonly logprob: number }[];
};

/**
 * An answer. It begins when somebody iterates it, or awaits its text or what it cost, and each of these gives all of it,
 * whichever comes first. Leaving an iteration before its end, or disposing of it, ends the answer with `cancelled`; one
 * that nobody asks for anything holds nothing.
 *
 *     await using answer = model.generate(plan);
 *     for await (const { text } of answer) process.stdout.write(text);
 *     console.log((await answer.stats).first_token_ms);
 */
export interface Generation extends AsyncIterable<GeneratedToken>, AsyncDisposable {
  /** Resolves when the first token is there, or the end; rejects with what ended the answer before. */
  readonly begun: Promise<void>;
  /** The whole text; rejects with the error that ended the answer. */
  readonly text: Promise<string>;
  /** What the answer cost; rejects with the error that ended it. */
  readonly stats: Promise<GenerationStats>;
}

/** A running answer: its tokens as they come, and what they cost at the end. */
export type Run = { readonly work: Work; readonly tokens: AsyncGenerator<GeneratedToken, GenerationStats, void> };

type Outcome = { readonly kind: "whole"; readonly stats: GenerationStats } | { readonly kind: "broken"; readonly error: unknown };

/** Draws an answer out of its run, token by token as they are asked for, and keeps them for whoever comes later. */
export class DrawnGeneration implements Generation {
  private run: Run | undefined;
  private readonly drawn: GeneratedToken[] = [];
  private drawing: Promise<void> | undefined;
  private outcome: Outcome | undefined;

  /** @param begin called when the first token is asked for */
  constructor(private readonly begin: () => Run) {}

  readonly begun: Promise<void> = new WhenAwaited(async () => {
    while (this.drawn.length === 0 && !this.outcome) await this.draw();
    if (this.drawn.length === 0) await this.drawAll(); // throws what broke it
  });

  readonly stats: Promise<GenerationStats> = new WhenAwaited(() => this.drawAll());

  readonly text: Promise<string> = new WhenAwaited(async () => {
    await this.drawAll();
    return this.drawn.map(({ text }) => text).join("");
  });

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void, void> {
    try {
      for (let at = 0; ; at++) {
        while (at === this.drawn.length && !this.outcome) await this.draw();
        if (at < this.drawn.length) yield this.drawn[at]!;
        else break;
      }
      await this.drawAll(); // throws what broke it
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.outcome) return;
    const left = new KvspliceError("cancelled", "The answer was left before its end.");
    if (this.run) this.run.work.abort(left);
    else this.outcome = { kind: "broken", error: left };
    while (!this.outcome) await this.drawing;
  }

  private async drawAll(): Promise<GenerationStats> {
    while (!this.outcome) await this.draw();
    if (this.outcome.kind === "broken") throw this.outcome.error;
    return this.outcome.stats;
  }

  /** One more token, or the end. */
  private draw(): Promise<void> {
    return (this.drawing ??= this.drawNext());
  }

  private async drawNext(): Promise<void> {
    try {
      this.run ??= this.start();
      const next = await this.run.tokens.next();
      if (next.done) this.end({ kind: "whole", stats: next.value });
      else this.drawn.push(next.value);
    } catch (error) {
      this.end({ kind: "broken", error });
    } finally {
      this.drawing = undefined;
      this.endIdle();
    }
  }

  private start(): Run {
    const run = this.begin();
    run.work.signal.addEventListener("abort", () => this.endIdle(), { once: true });
    return run;
  }

  /**
   * Ends an answer that was aborted between two tokens: whoever asks for the next one may never come, and what it holds
   * is given back now. What is being drawn ends by the signal itself.
   */
  private endIdle(): void {
    const { run } = this;
    if (!run?.work.signal.aborted || this.drawing || this.outcome) return;
    this.drawing = run.tokens.return(undefined as never).then(() => this.end({ kind: "broken", error: cancelledError(run.work.signal) }));
  }

  private end(outcome: Outcome): void {
    this.outcome = outcome;
    this.run?.work.done();
  }
}

/** A promise of what begins when somebody awaits it. */
class WhenAwaited<T> implements Promise<T> {
  readonly [Symbol.toStringTag] = "Promise";

  constructor(private readonly begin: () => Promise<T>) {}

  then<A = T, B = never>(onFulfilled?: ((value: T) => A | PromiseLike<A>) | null, onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<A | B> {
    return this.begin().then(onFulfilled, onRejected);
  }

  catch<B = never>(onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<T | B> {
    return this.begin().catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<T> {
    return this.begin().finally(onFinally);
  }
}
