import { setImmediate } from "node:timers/promises";
import { cancelledError } from "../../plan/index.js";
import type { Backend, PassPart } from "../backend/backend.js";
import { type Client, Shares } from "./shares.js";

/** Prompt tokens in a pass that also continues answers; more would stall the answers. */
const PASS_TOKENS_BESIDE_ANSWERS = 64;

/**
 * Prompt tokens in a pass where clients share: a new client waits for the end of the pass that is being computed, so it should be
 * short. Without clients, passes are as long as the backend does best.
 */
const PASS_TOKENS_OF_CLIENTS = 64;

/** Out of this many passes with room for it, one computes background work, however much else is waiting. */
const BACKGROUND_EVERY = 8;

/** Whose work it is, and whether anybody is waiting for it. */
export type WorkOptions = {
  readonly client?: Client | undefined;
  /** Background work, such as an encoding for later: answers go first. */
  readonly background?: boolean | undefined;
};

type Work = WorkOptions & {
  readonly part: PassPart;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (logits: Float32Array) => void;
  readonly reject: (error: unknown) => void;
  /** Tokens computed so far. */
  done: number;
};

/**
 * Composes passes from what running answers and encodings need. Answers join and leave the batch from pass to pass
 * (continuous batching: Orca, Yu et al. 2022), and long prompts are computed in pieces alongside them (chunked prefill:
 * Sarathi-Serve, Agrawal et al. 2024).
 */
export class Scheduler {
  private readonly waiting: Work[] = [];
  /** `look` calls, which run between passes: first come, first served. */
  private readonly looking: (() => Promise<void>)[] = [];
  private loop: Promise<void> | undefined;
  /** Whether the previous pass continued answers. */
  private steppedLast = false;
  /** Passes since background work last had a turn. */
  private stoodBack = 0;

  constructor(
    private readonly backend: Backend,
    private readonly shares = new Shares(),
  ) {}

  /**
   * Computes tokens, in as many passes as it takes, or in one if the logits of all of them are needed. Resolves with the last
   * tokens' logits `[part.logits, vocabulary]`.
   * @throws KvspliceError `cancelled`, or the signal's reason, no later than the end of the current pass
   */
  compute(part: PassPart, signal?: AbortSignal, options: WorkOptions = {}): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ ...options, part, signal, resolve, reject, done: 0 });
      this.loop ??= this.runPasses();
    });
  }

  /**
   * How much attention the tokens pay to each row: see `Backend.look`.
   * @throws KvspliceError `cancelled`, or the signal's reason
   */
  look(part: PassPart, asks: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      this.looking.push(async () => {
        if (signal?.aborted) reject(cancelledError(signal));
        else await this.backend.look(part, asks).then(resolve, reject);
      });
      this.loop ??= this.runPasses();
    });
  }

  /** Resolves when nothing is being computed. */
  async idle(): Promise<void> {
    await this.loop;
  }

  private async runPasses(): Promise<void> {
    for (;;) {
      // An answer that has received logits requests its next token before the next pass begins, so as to be in it.
      await setImmediate();
      this.dropCancelled();
      await this.looking.shift()?.();
      const pieces = this.choose();
      if (pieces.length === 0) {
        if (this.looking.length > 0) continue;
        this.loop = undefined; // now, so that the next call starts another
        return;
      }
      try {
        const logits = await this.backend.run(pieces.map(({ piece }) => piece));
        pieces.forEach(({ work, piece }, i) => this.advance(work, piece.tokens.length, logits[i]!));
      } catch (error) {
        for (const { work } of pieces) this.remove(work).reject(error);
      }
    }
  }

  /**
   * What the next pass computes. Decoding steps come first, so that answers continue whatever else is waiting. The rest follows
   * as far as there is room: answers before background encodings, and first come, first served. Where clients share, those
   * come first for whom the least was computed. If other work waits alongside the steps, they leave it one slot (or every second
   * pass, if a pass has one slot or the waiting work needs its own pass), so that it advances too; steps take turns.
   */
  private choose(): { work: Work; piece: PassPart }[] {
    const rest = this.inOrder(this.waiting.filter((work) => !isStep(work)));
    const steps = this.byShare(this.withoutCrowds(this.waiting.filter(isStep), rest[0]));
    const slots = this.slots();
    const apartNext = rest[0]?.part.apart === true;
    const forSteps = rest.length === 0 ? slots : slots > 1 && !apartNext ? slots - 1 : this.steppedLast ? 0 : slots;
    const chosen = steps.slice(0, forSteps);
    let room = chosen.length > 0 ? PASS_TOKENS_BESIDE_ANSWERS : Infinity;
    const pieces = chosen.map((work) => ({ work, piece: pieceOf(work, left(work)) }));
    const apart = apartNext && pieces.length === 0;
    const beside = apart ? rest.slice(0, 1) : this.withoutOthers(rest.filter(({ part }) => !part.apart)).slice(0, slots - pieces.length);
    for (const work of beside) {
      const most = this.backend.passTokens(work.part.cache.length);
      if (room === Infinity) room = work.client && !this.isBehind(work) ? Math.min(most, PASS_TOKENS_OF_CLIENTS) : most;
      const count = Math.min(left(work), room, most);
      if (count === 0) break;
      room -= count;
      pieces.push({ work, piece: pieceOf(work, count) });
    }
    this.steppedLast = chosen.length > 0;
    return pieces;
  }

  /**
   * The steps of this pass. While a client for whom less was computed waits for its first token, each of the others continues one
   * answer per pass, in turns: a pass is as quick as alongside one answer, however many answers another client has running.
   */
  private withoutCrowds(steps: readonly Work[], first: Work | undefined): readonly Work[] {
    if (!first || !this.isBehind(first)) return steps;
    const least = this.shares.countOf(first.client);
    const continued = new Set<string>();
    return steps.filter(({ client }) => {
      if (!client || this.shares.countOf(client) <= least) return true;
      return !continued.has(client.id) && continued.add(client.id);
    });
  }

  /** The work that one pass shares: not what others asked for, if the first of it is of a client for whom less was computed. */
  private withoutOthers(rest: readonly Work[]): readonly Work[] {
    const [first] = rest;
    return first && this.isBehind(first) ? rest.filter(({ client }) => client?.id === first.client!.id) : rest;
  }

  /** Whether less was computed for the client of this work than for another one that waits, so that it should not wait for that one. */
  private isBehind({ client, background }: Work): boolean {
    if (!client || background) return false;
    const least = this.shares.countOf(client);
    return this.waiting.some((other) => other.client && other.client.id !== client.id && this.shares.countOf(other.client) > least);
  }

  private byShare(works: readonly Work[]): Work[] {
    return works.toSorted((a, b) => this.shares.countOf(a.client) - this.shares.countOf(b.client));
  }

  private inOrder(rest: readonly Work[]): Work[] {
    const [answers, later] = [this.byShare(rest.filter(({ background }) => !background)), rest.filter(({ background }) => background)];
    if (answers.length === 0 || later.length === 0) {
      this.stoodBack = 0;
      return [...answers, ...later];
    }
    this.stoodBack = (this.stoodBack + 1) % BACKGROUND_EVERY;
    return this.stoodBack === 0 ? [...later, ...answers] : [...answers, ...later];
  }

  /** Passes of many tokens gain nothing from more slots; running answers are worth preparing more slots for. */
  private slots(): number {
    const { backend, waiting } = this;
    if (waiting.length < 2 || !waiting.some((work) => left(work) <= PASS_TOKENS_BESIDE_ANSWERS)) return 1;
    if (waiting.some(isStep)) backend.widen();
    return backend.slots;
  }

  private advance(work: Work, tokens: number, logits: Float32Array): void {
    work.done += tokens;
    this.shares.computed(work.client, tokens);
    if (work.signal?.aborted) this.remove(work).reject(cancelledError(work.signal));
    else if (left(work) === 0) this.remove(work).resolve(logits);
  }

  private dropCancelled(): void {
    for (const work of this.waiting.filter(({ signal }) => signal?.aborted)) this.remove(work).reject(cancelledError(work.signal));
  }

  private remove(work: Work): Work {
    this.waiting.splice(this.waiting.indexOf(work), 1);
    return work;
  }
}

/** Whether it is the step of a running answer: its next token, with guesses of what follows. */
function isStep({ part }: Work): boolean {
  return part.logits === part.tokens.length;
}

function left({ part, done }: Work): number {
  return part.tokens.length - done;
}

/** The next tokens of a piece of work. */
function pieceOf({ part, done }: Work, count: number): PassPart {
  const end = done + count;
  const { visible } = part;
  return {
    cache: part.cache,
    tokens: part.tokens.slice(done, end),
    positions: part.positions.slice(done, end),
    visible: visible && { counts: visible.counts.slice(done, end), shared: visible.shared },
    logits: end === part.tokens.length ? part.logits : 0,
    adapted: part.adapted,
    apart: part.apart,
  };
}
