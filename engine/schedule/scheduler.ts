import { setImmediate } from "node:timers/promises";
import { cancelledError } from "../../plan/index.js";
import type { PassLogits, PassPart, PassRunner } from "../backend/cpu/pass.js";
import { BATCH_SLOTS } from "../backend/cpu/session.js";

/** Tokens of one pass: longer prompts are cut, because the scores of all pairs exist at once. */
const PASS_TOKENS = 256;

/** Scores of one prompt's tokens in a pass: some copies of them exist at once, and larger ones make no pass faster. */
const SCORE_BYTES = 12 * 2 ** 20;

/** However long a prompt is: with fewer tokens a pass, reading the weights takes longer than the scores. */
const LEAST_PASS_TOKENS = 32;

/** Prompt tokens of a pass that also continues answers, so that these do not stall. */
const PASS_TOKENS_BESIDE_ANSWERS = 64;

type Work = {
  readonly part: PassPart;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (logits: PassLogits) => void;
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
  private loop: Promise<void> | undefined;

  constructor(private readonly runner: PassRunner) {}

  /**
   * Computes tokens, in as many passes as it takes, or in one if the logits of all of them are wanted. Resolves with the
   * last tokens' logits, where wanted; they are to be read at once, since the next pass overwrites them.
   * @throws KvspliceError `cancelled`, at the latest after the running pass
   */
  compute(part: PassPart, signal?: AbortSignal): Promise<PassLogits> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ part, signal, resolve, reject, done: 0 });
      this.loop ??= this.runPasses().finally(() => (this.loop = undefined));
    });
  }

  /** Resolves when nothing is being computed. */
  async idle(): Promise<void> {
    await this.loop;
  }

  private async runPasses(): Promise<void> {
    for (;;) {
      // Whoever was given logits reads them and asks for its next token before the next pass begins.
      await setImmediate();
      this.dropCancelled();
      const pieces = this.choose();
      if (pieces.length === 0) return;
      try {
        const logits = await this.runner.run(pieces.map(({ piece }) => piece));
        pieces.forEach(({ work, piece }, i) => this.advance(work, piece.tokens.length, logits[i]!));
      } catch (error) {
        for (const { work } of pieces) this.remove(work).reject(error);
      }
    }
  }

  /** What the next pass computes: first come, first served, each as much as there is room for. */
  private choose(): { work: Work; piece: PassPart }[] {
    const first = this.waiting[0];
    if (!first) return [];
    const slots = this.canBatch() ? BATCH_SLOTS : 1;
    const candidates = this.waiting.slice(0, slots);
    let room = candidates.some(isStep) ? PASS_TOKENS_BESIDE_ANSWERS : PASS_TOKENS;
    const pieces: { work: Work; piece: PassPart }[] = [];
    for (const work of candidates) {
      const count = isStep(work) ? left(work) : Math.min(left(work), room, this.mostTokens(work));
      if (count === 0) continue;
      if (!isStep(work)) room -= count;
      pieces.push({ work, piece: pieceOf(work, count) });
    }
    return pieces;
  }

  private mostTokens({ part }: Work): number {
    const rows = part.cache.length + PASS_TOKENS;
    return Math.max(LEAST_PASS_TOKENS, Math.floor(SCORE_BYTES / (rows * this.runner.scoreBytes)));
  }

  /** Passes of many tokens gain nothing from more of them; running answers are worth a session of its own. */
  private canBatch(): boolean {
    const short = this.waiting.some((work) => left(work) <= PASS_TOKENS_BESIDE_ANSWERS);
    return this.waiting.length > 1 && short && this.runner.canBatch({ open: this.waiting.some(isStep) });
  }

  private advance(work: Work, tokens: number, logits: PassLogits): void {
    work.done += tokens;
    if (left(work) === 0) this.remove(work).resolve(logits);
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
  };
}
