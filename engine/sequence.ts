import type { Engine } from "./engine.js";
import type { GeneratedToken, GenerateOptions, GenerationStats } from "./generation.js";
import { PromptLookup } from "./lookup.js";
import { freshTokens, hasLoose, looksOf, NO_LINK, questionOf, wayOf, withoutKeeping, type Looks, type Way } from "./link/index.js";
import { cancelledError, type Piece, type Plan, tokensOf } from "../plan/index.js";
import { cachedAgain, computePrompt, splicePlan, type CachedPiece, type KeptBlock, type Prompt } from "./prompt.js";
import { createSampler, logprobsOf, type Sampler } from "./sampling.js";
import { TextStream } from "./text-stream.js";

/** Rows that a cache is given for the answer: a longer one makes it grow. */
const ANSWER_ROWS = 512;

/** A token of the answer, before its text. */
type Chosen = Omit<GeneratedToken, "text">;

type PrefillStats = Pick<
  GenerationStats,
  "queue_ms" | "fetch_ms" | "splice_ms" | "look_ms" | "cached_tokens" | "computed_tokens" | "recomputed_tokens" | "encoded_tokens" | "warnings"
>;

/**
 * One running answer: its place among the answers, its prompt's cache, its tokens so far. `end` gives back what it
 * holds, and is the only place that does.
 */
export class Sequence {
  private readonly sample: Sampler;
  private readonly lookup: PromptLookup | undefined;
  private readonly plan: Plan;
  private readonly way: Way;
  /** KV behind blocks that were linked depends on the choice of what was computed again, which no key says: it is not kept. */
  private readonly isLinked: boolean;
  private held: { prompt?: Prompt } | undefined;
  private kept: KeptBlock[] = [];

  /** @throws KvspliceError `bad_argument`, `too_long` for a plan or options that cannot be answered */
  constructor(
    private readonly engine: Engine,
    plan: Plan,
    private readonly options: GenerateOptions,
    private readonly signal: AbortSignal,
  ) {
    const { link = NO_LINK } = options;
    this.way = wayOf(link);
    this.isLinked = link.kind !== "none" && hasLoose(plan);
    this.plan = this.isLinked ? withoutKeeping(plan) : plan;
    this.sample = createSampler(options);
    this.lookup = options.promptLookup ? new PromptLookup(tokensOf(plan), options.promptLookup) : undefined;
  }

  /** Answers; ends by itself, and where its caller leaves. */
  async *tokens(): AsyncGenerator<GeneratedToken, GenerationStats, void> {
    const { engine, options, lookup, signal } = this;
    const start = performance.now();
    try {
      const { logits: promptLogits, position: end, prompt, stats } = await this.prefill();
      const { cache } = prompt;
      const first = performance.now();
      const limit = this.limit;
      const text = new TextStream(engine.tokenizer, [...engine.chat.stop, ...(options.stop ?? [])], engine.chat.thought);
      const ids: number[] = [];
      const promptRows = cache.length;
      let chosen = this.choose(promptLogits, []);
      let position = end;
      let [drafted, accepted] = [0, 0];
      let finish: GenerationStats["finish"] | undefined = limit < 1 ? "length" : undefined;
      let lastToken = first;
      for (;;) {
        for (const token of chosen) {
          if (engine.endTokens.has(token.id)) finish ??= "end";
          if (finish) break;
          lastToken = performance.now();
          ids.push(token.id);
          lookup?.push(token.id);
          yield { ...token, text: text.push(token.id) };
          if (text.stopped) finish = "stop";
          else if (ids.length === limit) finish = "length";
        }
        const room = Math.min(limit - ids.length, engine.contextLength - position) - 1;
        if (finish || room < 0) break;
        throwIfCancelled(signal);
        const guess = lookup?.guess().slice(0, room) ?? [];
        const tokens = [ids.at(-1)!, ...guess];
        const rows = cache.length;
        const logits = await engine.scheduler.compute({ cache, tokens, positions: tokens.map((_, i) => position + i), logits: tokens.length }, signal);
        chosen = this.choose(logits, guess);
        cache.truncate(rows + chosen.length); // without the guesses that were not chosen
        position += chosen.length;
        drafted += guess.length;
        accepted += chosen.length - 1;
      }
      const rest = text.end();
      if (rest) yield { id: -1, text: rest };
      const warnings = [...stats.warnings, ...(await this.keep(prompt, promptRows, ids.slice(0, position - end)))];
      return {
        ...stats,
        first_token_ms: first - start,
        per_token_ms: ids.length > 1 ? (lastToken - first) / (ids.length - 1) : 0,
        total_ms: performance.now() - start,
        generated_tokens: ids.length,
        drafted_tokens: drafted,
        accepted_tokens: accepted,
        finish: finish ?? "length",
        warnings,
      };
    } finally {
      // Whoever leaves an answer leaves the prompt's KV, which is whole: the next one who asks the same finds it.
      await this.put(this.kept.splice(0));
      this.end();
    }
  }

  /**
   * Logits `[vocabulary]` that each token of a given answer would be drawn from, all tokens before it being as given
   * (teacher forcing).
   */
  async score(answer: readonly number[]): Promise<Float32Array[]> {
    const { engine, signal } = this;
    const { logits, position, prompt } = await this.prefill();
    const given = answer.slice(0, -1);
    if (given.length === 0) return [logits];
    const { cache } = prompt;
    const rest = await engine.scheduler.compute({ cache, tokens: given, positions: given.map((_, i) => position + i), logits: given.length }, signal);
    return [logits, ...given.map((_, i) => rest.subarray(i * logits.length, (i + 1) * logits.length))];
  }

  /** Waits for a place, fetches and splices the plan's blocks, and computes its fresh tokens: an answer can begin. */
  async prefill(): Promise<{ logits: Float32Array; position: number; prompt: Prompt; stats: PrefillStats }> {
    const { engine, plan, options, signal } = this;
    const position = engine.mustHold(plan);
    throwIfCancelled(signal);
    const start = performance.now();
    let fetching: ReturnType<Engine["fetch"]> | undefined;
    const fetch = () => (fetching ??= engine.fetch(plan, options.store, signal));
    await engine.admission.enter(fetch, signal);
    this.held = {};
    const entered = performance.now();
    const { cached, encoded, warnings } = await fetch();
    throwIfCancelled(signal);
    const fetched = performance.now();
    const room = Math.min(this.limit, ANSWER_ROWS, engine.contextLength - position);
    const { looks, look_ms } = await this.look(plan, cached, room);
    const linked = this.way.link(plan, looks);
    const splicing = performance.now();
    const prompt = splicePlan(linked, cachedAgain(linked, cached), engine.caches, room);
    this.held.prompt = prompt;
    const spliced = performance.now();
    const { cache } = prompt;
    const { logits, kept } = await computePrompt(
      prompt,
      (part) => engine.scheduler.compute(part, signal),
      (from, to) => cache.extract(from, to, engine.precision),
    );
    this.kept = kept;
    const computed = prompt.stretches.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const times = { queue_ms: entered - start, fetch_ms: fetched - entered, look_ms, splice_ms: spliced - splicing };
    const tokens = { cached_tokens: prompt.spliced, computed_tokens: computed, recomputed_tokens: freshTokens(linked) - freshTokens(plan), encoded_tokens: encoded };
    return { logits, position, prompt, stats: { ...times, ...tokens, warnings } };
  }

  /** What the plan's question looks at, of its blocks side by side; nothing where the way of linking does not ask. */
  private async look(plan: Plan, cached: ReadonlyMap<Piece, CachedPiece>, room: number): Promise<{ looks: Looks; look_ms: number }> {
    if (!this.way.looks || !hasLoose(plan)) return { looks: new Map(), look_ms: 0 };
    const { engine, signal } = this;
    const start = performance.now();
    const prompt = splicePlan(plan, cached, engine.caches, room);
    try {
      const { part, asks } = questionOf(plan, prompt);
      const weights = await engine.scheduler.look(part, asks, signal);
      return { looks: looksOf(plan, weights), look_ms: performance.now() - start };
    } finally {
      engine.caches.giveBack(prompt.cache);
    }
  }

  /** Gives place and cache back; again, it does nothing. */
  end(): void {
    const { held } = this;
    this.held = undefined;
    if (!held) return;
    if (held.prompt) this.engine.caches.giveBack(held.prompt.cache);
    this.engine.admission.leave();
  }

  /** Puts the KV of the prompt's computed pieces and of the answer into the store, where it has a name; returns warnings. */
  private async keep({ cache }: Prompt, row: number, answer: readonly number[]): Promise<string[]> {
    const { keepAnswer } = this.options;
    const key = answer.length > 0 && !this.isLinked ? keepAnswer?.(answer) : undefined;
    const kept = this.kept.splice(0);
    if (key !== undefined) kept.push({ key, block: await cache.extract(row, row + answer.length, this.engine.precision) });
    return this.put(kept);
  }

  /** Puts what was kept into the store; returns warnings of what could not be put. */
  private async put(kept: readonly KeptBlock[]): Promise<string[]> {
    const { store } = this.options;
    const warnings: string[] = [];
    for (const { key, block } of kept) {
      await store?.put(key, block).catch((error: unknown) => {
        warnings.push(`The KV of ${block.tokens} tokens could not be stored. ${error instanceof Error ? error.message : String(error)}`);
      });
    }
    return warnings;
  }

  private get limit(): number {
    return this.options.maxNewTokens ?? this.engine.card.maxAnswerTokens;
  }

  /** The token after a pass, and those before it that were guessed right; `logits` is `[guess.length + 1, vocabulary]`. */
  private choose(logits: Float32Array, guess: readonly number[]): Chosen[] {
    const vocabulary = logits.length / (guess.length + 1);
    const { logprobs } = this.options;
    const chosen: Chosen[] = [];
    for (let row = 0; ; row++) {
      const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
      this.options.onLogits?.(own);
      const id = this.sample(own);
      chosen.push({ id, ...(logprobs !== undefined && this.likelihood(own, id, logprobs)) });
      if (id !== guess[row] || this.engine.endTokens.has(id)) return chosen;
    }
  }

  private likelihood(logits: Float32Array, id: number, top: number): Pick<GeneratedToken, "logprob" | "top"> {
    const found = logprobsOf(logits, id, top);
    return { logprob: found.logprob, top: found.top.map((each) => ({ ...each, text: this.engine.tokenizer.decode([each.id]) })) };
  }
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw cancelledError(signal);
}
