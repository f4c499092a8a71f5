import { cancelledError, type FreshPiece, isBlockPiece, keptRuns, type Piece, type Plan, tokensOf } from "../plan/index.js";
import { allowedRun, type Constraint, createMask, masked } from "./constraint.js";
import type { Engine } from "./engine.js";
import type { GeneratedToken, GenerateOptions, GenerationStats, PromptStats, Scored } from "./generation.js";
import { type Block, blockFits } from "./kv/block.js";
import {
  freshTokens,
  hasLoose,
  keptAsFound,
  keptAsLinked,
  type Looks,
  looksOf,
  NO_LINK,
  questionOf,
  type Way,
  wayOf,
} from "./link/index.js";
import { PromptLookup } from "./lookup.js";
import { type CachedPiece, cachedAgain, prefill, type SplicedPlan, splicePlan } from "./prefill.js";
import { createSampler, logprobsOf, type Sampler } from "./sampling.js";
import type { BlockKey } from "./store/store.js";
import { TextStream } from "./text-stream.js";

/** Rows that a cache is given for the answer; a longer answer makes it grow. */
const ANSWER_ROWS = 512;

/** KV that was computed for a plan and is to be stored. */
type KeptBlock = { readonly key: BlockKey; readonly block: Block };

/** A token of the answer, before its text. */
type Chosen = Omit<GeneratedToken, "text">;

/**
 * One running answer: its place among the answers, its prompt's cache, its tokens so far. `end` is the only place that
 * releases them.
 */
export class Sequence {
  private readonly sample: Sampler;
  private readonly lookup: PromptLookup | undefined;
  private readonly constraint: Constraint | undefined;
  private mask: Uint32Array = new Uint32Array(0);
  private plan: Plan;
  private readonly way: Way;
  /** KV after linked blocks depends on which tokens are recomputed: it is kept only if its key accounts for that. */
  private readonly isLinked: boolean;
  private held: { prompt?: SplicedPlan } | undefined;
  private readonly kept: KeptBlock[] = [];
  /** Names of the KV that others are waiting for. */
  private readonly announced = new Set<BlockKey>();

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
    this.plan = this.isLinked ? keptAsLinked(plan) : plan;
    const prompt = tokensOf(plan);
    this.sample = createSampler(options, prompt);
    this.lookup = options.promptLookup ? new PromptLookup(prompt, options.promptLookup) : undefined;
    this.constraint = options.grammar?.begin();
  }

  /** Generates the answer; ends by itself, or when its caller stops reading. */
  async *tokens(): AsyncGenerator<GeneratedToken, GenerationStats, void> {
    const { engine, options, lookup, constraint, signal } = this;
    const start = performance.now();
    try {
      const { logits: promptLogits, position: end, prompt, stats } = await this.prefill();
      options.onPhase?.("decode");
      const { cache } = prompt;
      const first = performance.now();
      const limit = this.limit;
      const text = new TextStream(engine.tokenizer, {
        stops: [...engine.chat.stop, ...(options.stop ?? [])],
        thought: constraint ? undefined : engine.chat.thought,
        continues: options.continues,
      });
      const ids: number[] = [];
      const promptRows = cache.length;
      let chosen = this.choose(promptLogits, []);
      let position = end;
      let [drafted, accepted] = [0, 0];
      let finish: GenerationStats["finish"] | undefined = limit < 1 ? "length" : undefined;
      let lastToken = first;
      for (;;) {
        for (const [i, token] of chosen.entries()) {
          if (engine.endTokens.has(token.id)) finish ??= "end";
          if (finish) break;
          lastToken = performance.now();
          ids.push(token.id);
          lookup?.push(token.id);
          yield { ...token, text: text.push(token.id) };
          if (text.stopped) finish = "stop";
          else if (constraint?.finished && i === chosen.length - 1) finish = "end";
          else if (ids.length === limit) finish = "length";
        }
        const room = Math.min(limit - ids.length, engine.contextLength - position) - 1;
        if (finish || room < 0) break;
        throwIfCancelled(signal);
        const guess = this.guess(room);
        const tokens = [ids.at(-1)!, ...guess];
        const rows = cache.length;
        const logits = await engine.scheduler.compute(
          { cache, tokens, positions: tokens.map((_, i) => position + i), logits: tokens.length },
          signal,
          { client: options.client },
        );
        chosen = this.choose(logits, guess);
        cache.truncate(rows + chosen.length); // drops the guesses that were not chosen
        position += chosen.length;
        drafted += guess.length;
        accepted += chosen.length - 1;
      }
      const rest = text.end();
      if (rest) yield { id: -1, text: rest };
      const warnings = [...stats.warnings, ...(await this.keep(prompt, promptRows, ids.slice(0, position - end)))];
      return {
        ...stats,
        per_token_ms: ids.length > 1 ? (lastToken - first) / (ids.length - 1) : 0,
        total_ms: performance.now() - start,
        generated_tokens: ids.length,
        drafted_tokens: drafted,
        accepted_tokens: accepted,
        finish: finish ?? "length",
        warnings,
      };
    } finally {
      // If the caller leaves the answer, the prompt's KV is still complete: the next answer to the same prompt finds it.
      await this.put(this.kept.splice(0));
      this.end();
    }
  }

  /** Gives the answer's tokens one by one (teacher forcing). */
  async score(answer: readonly number[]): Promise<Scored> {
    const { engine, signal } = this;
    const { logits, position, prompt, stats } = await this.prefill();
    const given = answer.slice(0, -1);
    if (given.length === 0) return { logits: [logits], stats };
    const { cache } = prompt;
    const rest = await engine.scheduler.compute(
      { cache, tokens: given, positions: given.map((_, i) => position + i), logits: given.length },
      signal,
    );
    return { logits: [logits, ...given.map((_, i) => rest.subarray(i * logits.length, (i + 1) * logits.length))], stats };
  }

  /** Waits for a place, fetches and splices the plan's blocks, and computes its fresh tokens, so that an answer can begin. */
  async prefill(): Promise<{ logits: Float32Array; position: number; prompt: SplicedPlan; stats: PromptStats }> {
    const { engine, options, signal } = this;
    const position = engine.mustHold(this.plan);
    throwIfCancelled(signal);
    const start = performance.now();
    options.onPhase?.("queue");
    let fetching: ReturnType<Engine["fetch"]> | undefined;
    const fetch = () => (fetching ??= engine.fetch(this.plan, options, signal));
    await engine.admission.enter(fetch, signal, options.client);
    this.held = {};
    const entered = performance.now();
    options.onPhase?.("fetch");
    const hasWaited = fetching !== undefined;
    const { cached: stored, made, elsewhere, warnings } = await fetch();
    const cached = this.isLinked ? stored : await this.join(stored, hasWaited); // linked prompts share nothing
    if (this.isLinked) this.plan = keptAsFound(this.plan, stored);
    const { plan } = this;
    throwIfCancelled(signal);
    const fetched = performance.now();
    if (this.isLinked) options.onPhase?.("recompute");
    const room = Math.min(this.limit, ANSWER_ROWS, engine.contextLength - position);
    const { looks, look_ms } = await this.look(plan, cached, room);
    const linked = this.way.link(plan, looks);
    options.onLinked?.(linked);
    const splicing = performance.now();
    options.onPhase?.("splice");
    const linkedCached = cachedAgain(linked, cached);
    const prompt = await splicePlan(linked, linkedCached, engine.caches, room);
    this.held.prompt = prompt;
    const spliced = performance.now();
    options.onPhase?.("prefill");
    const { cache } = prompt;
    const logits = await prefill(
      prompt,
      (part) => engine.scheduler.compute(part, signal, { client: options.client }),
      async (key, from, to) => {
        const block = await cache.extract(from, to, engine.precision);
        this.kept.push({ key, block });
        engine.underway.made(key, block);
        return block;
      },
    );
    const computed = prompt.stretches.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const times = { queue_ms: entered - start, fetch_ms: fetched - entered, look_ms, splice_ms: spliced - splicing };
    const encoded = tokensMade(linkedCached, made);
    const tokens = {
      cached_tokens: prompt.spliced - encoded,
      computed_tokens: computed,
      recomputed_tokens: freshTokens(linked) - freshTokens(plan),
      encoded_tokens: encoded,
      elsewhere_tokens: elsewhere.tokens,
      elsewhere_ms: elsewhere.ms,
    };
    return { logits, position, prompt, stats: { ...times, first_token_ms: performance.now() - start, ...tokens, warnings } };
  }

  /**
   * Adds the KV of named pieces that the store did not have and another answer is computing now. What nobody is computing is
   * announced, so that others wait for this answer's. An answer that is waited for waits for nobody: no cycle can form.
   */
  private async join(stored: ReadonlyMap<Piece, CachedPiece>, hasWaited: boolean): Promise<ReadonlyMap<Piece, CachedPiece>> {
    const { engine, plan, options, signal } = this;
    const { underway } = engine;
    if (!options.store) return stored; // without a store nothing is shared
    let isLate = hasWaited;
    const cached: [Piece, CachedPiece][] = [];
    for (const piece of plan.pieces) {
      const known = stored.get(piece);
      if (known) cached.push([piece, known]);
      if (known || isBlockPiece(piece) || piece.keep === undefined) continue;
      const { keep: key } = piece;
      let block: Block | undefined;
      for (let theirs = underway.find(key); theirs && !block && this.announced.size === 0; theirs = underway.find(key)) {
        block = await orCancelled(theirs, signal);
        isLate = true;
      }
      if (!block) this.announce(key); // before looking at the store again, so that only one of several waiters computes it
      if (!block && isLate && (await options.store.has(key))) block = await options.store.get(key, options.onRead);
      if (!block || !blockFits(engine.form, piece.tokens.length, block)) continue;
      cached.push([piece, { key, block }]);
      this.disclaim(key);
    }
    return new Map(cached);
  }

  private announce(key: BlockKey): void {
    const { underway } = this.engine;
    if (underway.find(key)) return;
    underway.announce(key);
    this.announced.add(key);
  }

  private disclaim(key: BlockKey): void {
    if (this.announced.delete(key)) this.engine.underway.end(key);
  }

  /** What the plan's question attends to, with its blocks placed one after the other; nothing if the way of linking does not need it. */
  private async look(plan: Plan, cached: ReadonlyMap<Piece, CachedPiece>, room: number): Promise<{ looks: Looks; look_ms: number }> {
    if (!this.way.looks || !hasLoose(plan)) return { looks: new Map(), look_ms: 0 };
    const { engine, signal } = this;
    const start = performance.now();
    const prompt = await splicePlan(plan, cached, engine.caches, room);
    try {
      const { part, asks } = questionOf(plan, cached, prompt);
      const weights = await engine.scheduler.look(part, asks, signal);
      return { looks: looksOf(plan, cached, weights), look_ms: performance.now() - start };
    } finally {
      engine.caches.giveBack(prompt.cache);
    }
  }

  /** Releases the place and the cache; calling it again does nothing. */
  end(): void {
    const { held } = this;
    this.held = undefined;
    this.constraint?.[Symbol.dispose]();
    if (!held) return;
    for (const key of this.announced) this.disclaim(key);
    if (held.prompt) this.engine.caches.giveBack(held.prompt.cache);
    this.engine.admission.leave(this.options.client);
  }

  /** Stores the KV of the prompt's computed pieces and of the answer, if they have names; returns warnings. */
  private async keep({ cache }: SplicedPlan, row: number, answer: readonly number[]): Promise<string[]> {
    const { keepAnswer } = this.options;
    const isNamed = !this.isLinked || this.plan.pieces.some((piece) => !isBlockPiece(piece) && piece.linked === "now");
    const key = answer.length > 0 && isNamed ? keepAnswer?.(answer) : undefined;
    const kept = this.kept.splice(0);
    const last = this.plan.pieces.at(-1) as FreshPiece;
    const opening = last.keep === undefined ? last.tokens.length : 0;
    if (key !== undefined) kept.push({ key, block: await cache.extract(row - opening, row + answer.length, this.engine.precision) });
    return this.put(kept);
  }

  /** Stores what was kept; returns a warning for each block that could not be stored. */
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

  /** What may follow, as far as the grammar allows it. */
  private guess(room: number): number[] {
    const guess = this.lookup?.guess().slice(0, room) ?? [];
    return this.constraint ? guess.slice(0, allowedRun(this.constraint, this.mask, guess)) : guess;
  }

  /** The token after a pass, preceded by those that were guessed right; `logits` is `[guess.length + 1, vocabulary]`. */
  private choose(logits: Float32Array, guess: readonly number[]): Chosen[] {
    const vocabulary = logits.length / (guess.length + 1);
    const { logprobs } = this.options;
    const { constraint } = this;
    if (constraint && this.mask.length === 0) this.mask = createMask(vocabulary);
    const chosen: Chosen[] = [];
    for (let row = 0; ; row++) {
      const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
      this.options.onLogits?.(own);
      constraint?.allowed(this.mask);
      const id = this.sample(constraint ? masked(own, this.mask) : own);
      chosen.push({ id, ...(logprobs !== undefined && this.likelihood(own, id, logprobs)) });
      if (this.engine.endTokens.has(id)) return chosen;
      constraint?.accept(id);
      if (id !== guess[row] || constraint?.finished) return chosen;
    }
  }

  private likelihood(logits: Float32Array, id: number, top: number): Pick<GeneratedToken, "logprob" | "top"> {
    const found = logprobsOf(logits, id, top);
    return { logprob: found.logprob, top: found.top.map((each) => ({ ...each, text: this.engine.tokenizer.decode([each.id]) })) };
  }
}

/** @throws KvspliceError `cancelled` when the signal is aborted, even if what is awaited resolves later */
function orCancelled<T>(awaited: Promise<T>, signal: AbortSignal): Promise<T> {
  throwIfCancelled(signal);
  return new Promise((resolve, reject) => {
    const cancel = () => reject(cancelledError(signal));
    signal.addEventListener("abort", cancel, { once: true });
    void awaited.then(resolve, reject).finally(() => signal.removeEventListener("abort", cancel));
  });
}

/** Spliced tokens whose KV was not in the store: those of blocks that were encoded on the way. */
function tokensMade(spliced: ReadonlyMap<Piece, CachedPiece>, made: ReadonlySet<BlockKey>): number {
  const pieces = [...spliced].flatMap(([piece, { key }]) => (isBlockPiece(piece) && made.has(key) ? [piece] : []));
  return pieces.reduce(
    (sum, { block, omit = [] }) => sum + keptRuns(block.tokens.length, omit).reduce((tokens, [from, to]) => tokens + to - from, 0),
    0,
  );
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw cancelledError(signal);
}
