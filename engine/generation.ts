import { cancelledError, KvspliceError, type Plan } from "../plan/index.js";
import type { Grammar } from "./constraint.js";
import type { Elsewhere } from "./fetch-blocks.js";
import type { Lifetime, Work } from "./lifetime.js";
import type { Link } from "./link/index.js";
import type { SamplingOptions } from "./sampling.js";
import type { Client } from "./schedule/shares.js";
import type { BlockKey, BlockStore, TierName } from "./store/store.js";
import { WhenAwaited } from "./when-awaited.js";

/**
 * What an answer does, in this order: waits for a place, fetches its blocks, chooses what to recompute if its documents are
 * linked, splices, computes the fresh tokens, and generates its own.
 */
export type Phase = "queue" | "fetch" | "recompute" | "splice" | "prefill" | "decode";

/** How an answer is generated, and callbacks for its progress. Sampling options default to the model's own (`Model.sampling`). */
export type GenerateOptions = SamplingOptions & {
  /** Where blocks are looked up, and stored if missing. Without a store, every block is encoded on the way. */
  readonly store?: BlockStore;
  /** The model card's `maxAnswerTokens` if omitted. */
  readonly maxNewTokens?: number;
  /** Texts that end the answer; they are not part of it. None by default. */
  readonly stop?: readonly string[];
  /** The answer continues a text that the plan breaks off: a space at its start is its own, and it has no thought. False by default. */
  readonly continues?: boolean;
  /**
   * Guesses up to this many tokens at a time from what follows the answer's last tokens in the prompt, and checks them in the
   * same pass: each one that the model also chooses saves a pass. The answer is the same. 0 (none) if omitted.
   */
  readonly promptLookup?: number;
  /** What the answer may say; anything if omitted. Log probabilities remain the model's own. */
  readonly grammar?: Grammar;
  /** How the plan's loose blocks are linked; not at all if omitted. */
  readonly link?: Link;
  /** Called with the linked plan before it is computed: tokens to recompute are fresh in it. */
  readonly onLinked?: (linked: Plan) => void;
  /** Called when a phase of the answer begins, which is when the previous one has ended. */
  readonly onPhase?: (phase: Phase) => void;
  /** Called with the logits `[vocabulary]` that each token is drawn from, including the end token. */
  readonly onLogits?: (logits: Float32Array) => void;
  /** Returns each token's log probability, and those of this many likeliest tokens in its place; neither if omitted. */
  readonly logprobs?: number;
  /**
   * Names the KV of the answer's tokens, which is then stored like that of a `keep` piece. Called once, when the answer has
   * ended, with the tokens whose KV exists (the last token's may not). If the plan's last piece has no name of its own, it is
   * stored as the start of the answer's KV. Nothing of the answer is kept if omitted.
   */
  readonly keepAnswer?: (tokens: readonly number[]) => BlockKey | undefined;
  /** The client whose share of the machine it uses, where clients share by how much is computed for each; none if omitted. */
  readonly client?: Client;
  /** Other encoders, which encode missing blocks when they are expected to be sooner. */
  readonly elsewhere?: Elsewhere;
  /** Called with a block's number of tokens when the block is left to them. */
  readonly onElsewhere?: (tokens: number) => void;
  /** Called on each read of a block with the tier of the store that had it, undefined if none had. */
  readonly onRead?: (tier: TierName | undefined) => void;
  /** Ends the answer with KvspliceError `cancelled`, no later than the end of the current pass. */
  readonly signal?: AbortSignal;
  /** Another owner of the answer besides its model: closing it ends the answer and waits for that. Only the model owns it if omitted. */
  readonly within?: Lifetime;
};

/** What an answer cost. Times are in milliseconds from its start; tokens are counted by how their KV was obtained. */
export type GenerationStats = {
  /** Until a place among the running answers became free. */
  readonly queue_ms: number;
  /** Getting the blocks' KV from the store, including the encoding of missing blocks. */
  readonly fetch_ms: number;
  /** Re-encoding K at the new positions and placing the blocks one after the other. */
  readonly splice_ms: number;
  /** Finding out what the question attends to; 0 if the link does not depend on it. */
  readonly look_ms: number;
  /** From the start to the first token: fetch, splice, look, and the pass over the fresh tokens. */
  readonly first_token_ms: number;
  /** Mean over the tokens after the first; 0 if there were none. */
  readonly per_token_ms: number;
  readonly total_ms: number;
  /** Prompt tokens whose KV was in the store. Each prompt token is exactly one of cached, encoded or computed. */
  readonly cached_tokens: number;
  readonly computed_tokens: number;
  /** Those of the computed tokens that belong to loose blocks and were recomputed. */
  readonly recomputed_tokens: number;
  readonly generated_tokens: number;
  /** Tokens that were guessed from the prompt, and how many of them the model chose. */
  readonly drafted_tokens: number;
  readonly accepted_tokens: number;
  /** What ended the answer: the model's end token, the limit on tokens (or the context), or a stop text. */
  readonly finish: "end" | "length" | "stop";
  /** Prompt tokens of blocks that the store did not have and that were encoded on the way; those of all blocks without a store. */
  readonly encoded_tokens: number;
  /** How many of these others encoded, and the time spent waiting for them, which is part of `fetch_ms`. */
  readonly elsewhere_tokens: number;
  readonly elsewhere_ms: number;
  /** What went wrong without affecting the answer, such as a block that could not be stored. */
  readonly warnings: readonly string[];
};

/** What a prompt cost, up to the first token. */
export type PromptStats = Pick<
  GenerationStats,
  | "queue_ms"
  | "fetch_ms"
  | "splice_ms"
  | "look_ms"
  | "first_token_ms"
  | "cached_tokens"
  | "computed_tokens"
  | "recomputed_tokens"
  | "encoded_tokens"
  | "elsewhere_tokens"
  | "elsewhere_ms"
  | "warnings"
>;

/** How likely a given answer is after a prompt. */
export type Scored = {
  /** Logits `[vocabulary]` that each token of the answer would be drawn from, given all tokens before it. */
  readonly logits: readonly Float32Array[];
  readonly stats: PromptStats;
};

/** One token of an answer. */
export type GeneratedToken = {
  /** -1 for the rest of an answer that stops within a character. */
  readonly id: number;
  /** Text that this token completes; empty while a character is incomplete or may begin a stop text. */
  readonly text: string;
  /** Natural logarithm of the token's probability, if requested. */
  readonly logprob?: number;
  /** The likeliest tokens in its place, likeliest first, if requested. */
  readonly top?: readonly { readonly id: number; readonly text: string; readonly logprob: number }[];
};

/**
 * An answer. It starts when it is iterated, or when its text or its cost is awaited. Each of these yields the whole answer,
 * in whatever order they are used. Leaving an iteration early, or disposing of the answer, ends it with `cancelled`. An
 * answer that is never used holds no resources.
 *
 *     await using answer = model.generate(plan);
 *     for await (const { text } of answer) process.stdout.write(text);
 *     console.log((await answer.stats).first_token_ms);
 */
export interface Generation extends AsyncIterable<GeneratedToken>, AsyncDisposable {
  /** Resolves at the first token, or at the end; rejects with whatever ended the answer before that. */
  readonly begun: Promise<void>;
  /** The whole text; rejects with the error that ended the answer. */
  readonly text: Promise<string>;
  /** What the answer cost; rejects with the error that ended it. */
  readonly stats: Promise<GenerationStats>;
}

/** A running answer: its tokens as they arrive, and what they cost at the end. */
export type Run = { readonly work: Work; readonly tokens: AsyncGenerator<GeneratedToken, GenerationStats, void> };

type Outcome = { readonly kind: "whole"; readonly stats: GenerationStats } | { readonly kind: "broken"; readonly error: unknown };

/** Draws an answer from its run, token by token as they are requested, and keeps them for later readers. */
export class DrawnGeneration implements Generation {
  private run: Run | undefined;
  private readonly drawn: GeneratedToken[] = [];
  private drawing: Promise<void> | undefined;
  private outcome: Outcome | undefined;

  /** @param begin called when the first token is requested */
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
    const left = new KvspliceError("cancelled", "The caller abandoned the answer before its end.");
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
   * Ends an answer that was aborted between two tokens: the next token may never be requested, so its resources are freed
   * now. A token that is being drawn ends by the signal itself.
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
