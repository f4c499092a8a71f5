import { setImmediate } from "node:timers/promises";
import { cancelledError } from "../../plan/index.js";
import type { Backend, PassPart } from "../backend/backend.js";

/** Prompt tokens of a pass that also continues answers, so that these do not stall. */
const PASS_TOKENS_BESIDE_ANSWERS = 64;

type Work = {
  readonly part: PassPart;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (logits: Float32Array) => void;
  readonly reject: (error: unknown) => void;
  /** Tokens computed so far. */
  done: number;
};

/**
 * Makes passes of what running answers and encodings want computed, whoever wants it: answers join and leave the batch
 * from pass to pass (continuous batching: Orca, Yu et al. 2022), and long prompts are computed in pieces beside them
 * (chunked prefill: Sarathi-Serve, Agrawal et al. 2024).
 */
export class Scheduler {
  private readonly waiting: Work[] = [];
  /** What looks, between passes: first come, first served. */
  private readonly looking: (() => Promise<void>)[] = [];
  private loop: Promise<void> | undefined;
  /** Whether the pass before went on with answers. */
  private steppedLast = false;

  constructor(private readonly backend: Backend) {}

  /**
   * Computes tokens, in as many passes as it takes, or in one if the logits of all of them are wanted. Resolves with the
   * last tokens' logits `[part.logits, vocabulary]`.
   * @throws KvspliceError `cancelled`, or what the signal's reason is, at the latest after the running pass
   */
  compute(part: PassPart, signal?: AbortSignal): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ part, signal, resolve, reject, done: 0 });
      this.loop ??= this.runPasses();
    });
  }

  /**
   * How much the tokens look at each row: see `Backend.look`.
   * @throws KvspliceError `cancelled`, or what the signal's reason is
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
      // Whoever was given logits asks for its next token before the next pass begins, to be in it.
      await setImmediate();
      this.dropCancelled();
      await this.looking.shift()?.();
      const pieces = this.choose();
      if (pieces.length === 0) {
        if (this.looking.length > 0) continue;
        this.loop = undefined; // now: whoever comes next begins another
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
   * What the next pass computes: decoding steps first, so that answers go on whatever else waits, and then the rest, first
   * come, first served, each as much as there is room for. Where something waits beside the steps, they leave it a slot
   * (or every second pass, where a pass has one slot, or what waits has a pass of its own), so that it goes on too; steps
   * come in turns.
   */
  private choose(): { work: Work; piece: PassPart }[] {
    const steps = this.waiting.filter(isStep);
    const rest = this.waiting.filter((work) => !isStep(work));
    const slots = this.slots();
    const adaptedNext = rest[0]?.part.adapted === true;
    const forSteps = rest.length === 0 ? slots : slots > 1 && !adaptedNext ? slots - 1 : this.steppedLast ? 0 : slots;
    const chosen = steps.slice(0, forSteps);
    let room = chosen.length > 0 ? PASS_TOKENS_BESIDE_ANSWERS : Infinity;
    const pieces = chosen.map((work) => ({ work, piece: pieceOf(work, left(work)) }));
    const adapted = adaptedNext && pieces.length === 0;
    const beside = adapted ? rest.slice(0, 1) : rest.filter(({ part }) => !part.adapted).slice(0, slots - pieces.length);
    for (const work of beside) {
      const most = this.backend.passTokens(work.part.cache.length);
      if (room === Infinity) room = most;
      const count = Math.min(left(work), room, most);
      if (count === 0) break;
      room -= count;
      pieces.push({ work, piece: pieceOf(work, count) });
    }
    this.steppedLast = chosen.length > 0;
    return pieces;
  }

  /** Passes of many tokens gain nothing from more of them; running answers are worth making ready for. */
  private slots(): number {
    const { backend, waiting } = this;
    if (waiting.length < 2 || !waiting.some((work) => left(work) <= PASS_TOKENS_BESIDE_ANSWERS)) return 1;
    if (waiting.some(isStep)) backend.widen();
    return backend.slots;
  }

  private advance(work: Work, tokens: number, logits: Float32Array): void {
    work.done += tokens;
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

/** Whether it is a running answer's: its next token, with what may follow. */
function isStep({ part }: Work): boolean {
  return part.logits === part.tokens.length;
}

function left({ part, done }: Work): number {
  return part.tokens.length - done;
}

/** The next tokens of some work. */
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
  };
}
