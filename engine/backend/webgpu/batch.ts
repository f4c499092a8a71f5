/** Limits padding in a batch: no block is shorter than this share of the longest. A batch with this share of its tokens is full. */
export const LEAST_SHARE = 0.75;

/** A block that waits. `background`: nobody waits for it. */
type Waiting = { readonly length: number; readonly background: boolean };

/**
 * Which blocks one pass takes: the first, and those closest to it in length, as long as the total, with each padded to the longest,
 * is at most `tokens`. Of the others, those in the background come last.
 *
 * @param blocks the first one is encoded in any case
 * @returns their indices, the first one first
 */
export function batchOf(blocks: readonly Waiting[], tokens: number): number[] {
  const [{ length: wanted }] = blocks as readonly [Waiting];
  const difference = (index: number) => Math.abs(blocks[index]!.length - wanted);
  const others = Array.from({ length: blocks.length - 1 }, (_, i) => i + 1).sort(
    (a, b) => Number(blocks[a]!.background) - Number(blocks[b]!.background) || difference(a) - difference(b),
  );
  const chosen = [0];
  let [longest, shortest] = [wanted, wanted];
  for (const index of others) {
    const { length } = blocks[index]!;
    const [most, least] = [Math.max(longest, length), Math.min(shortest, length)];
    if (least < LEAST_SHARE * most || most * (chosen.length + 1) > tokens) continue;
    chosen.push(index);
    [longest, shortest] = [most, least];
  }
  return chosen;
}

/** Passes begin with this many tokens, and have no more while prompts wait for them. */
export const LEAST_TOKENS = 512;

/** Larger passes gain nothing on any known device, and take memory. */
export const MOST_TOKENS = 4096;

/** Longer blocks go to the processor: the scores of all pairs of tokens exist at once, and would take gigabytes. */
export const LONGEST_BLOCK = 2048;

/** A size is kept if doubling it does not make each token at least this much faster. */
const GAIN = 1.03;

/** Passes timed at one size: the first may compile shaders. */
const SAMPLES = 2;

/** How many tokens a pass gets: doubled for as long as that makes each token cheaper. */
export class PassSize {
  private size: number;
  private best = 0;
  private samples = 0;
  private settled = false;
  private before = 0;
  /** Before a pass failed. */
  private whole: number | undefined;

  /** @param most tokens that fit in memory */
  constructor(private readonly most = MOST_TOKENS) {
    this.size = Math.min(LEAST_TOKENS, most);
  }

  get tokens(): number {
    return this.size;
  }

  /** Records how long a pass over this many tokens, including padding, took. Passes that are not nearly full are ignored. */
  took(tokens: number, ms: number): void {
    if (this.settled || tokens < LEAST_SHARE * this.size) return;
    this.best = Math.max(this.best, tokens / ms);
    if (++this.samples < SAMPLES) return;
    if (this.best < GAIN * this.before) {
      this.size /= 2;
      this.settled = true;
    } else if (2 * this.size > this.most) this.settled = true;
    else {
      this.size *= 2;
      [this.before, this.best, this.samples] = [this.best, 0, 0];
    }
  }

  /** Records that a pass of this many tokens failed, probably for lack of memory. */
  failed(tokens: number): void {
    this.whole ??= this.size;
    this.size = Math.max(1, Math.floor(tokens / 2));
    this.settled = true;
  }

  /** Records that one block failed alone: it was the block, and not the size. */
  failedAlone(): void {
    this.size = this.whole ?? this.size;
    this.whole = undefined;
  }
}
