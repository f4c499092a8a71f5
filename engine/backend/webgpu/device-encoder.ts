import { cancelledError } from "../../../plan/index.js";
import type { Thread } from "../../../runtime/thread.js";
import type { Block } from "../../kv/block.js";
import type { BlockEncoder, BlockItem, BlockOptions } from "../backend.js";
import { batchOf, LEAST_SHARE, LONGEST_BLOCK, PassSize } from "./batch.js";
import { deviceTurns, type EncoderCalls, type Numbered } from "./calls.js";

type Waiting = BlockOptions & {
  readonly item: BlockItem;
  readonly resolve: (block: Block | undefined) => void;
  readonly reject: (error: unknown) => void;
};

/** Blocks of one pass, by the number that the thread knows it by. */
type Batch = { readonly number: Numbered; readonly blocks: readonly Waiting[]; readonly prepared: Promise<void> };

/** Number of blocks worth requesting at once: those of running passes, and enough others that some are of like length. */
const AT_ONCE = 256;

/** A device that fails this many blocks in a row, each alone in its pass, counts as lost. */
const MOST_FAILURES = 2;

type EncoderThread = Pick<Thread<EncoderCalls>, "ask" | "close">;

/** Encodes blocks on the device, in a separate thread: blocks that gather during a pass form the next one. */
export class DeviceEncoder implements BlockEncoder {
  private readonly waiting: Waiting[] = [];
  private readonly size: PassSize;
  private readonly longest: number;
  private running: Promise<void> | undefined;
  private failures = 0;
  private batches = 0;

  /**
   * @param thread in which the encoder has been opened; it is closed with this
   * @param mostTokens of one pass that fit in memory
   * @param onNotice called with a sentence for each block that the device fails, and when it is lost
   * @param onLost called when it is lost
   * @param onlyAdapted whether it has the weights of the encoding adapter: then other blocks are not for it
   */
  constructor(
    private readonly thread: EncoderThread,
    mostTokens: number,
    private readonly onNotice: (notice: string) => void,
    private readonly onLost: () => void = () => undefined,
    private readonly onlyAdapted = false,
  ) {
    this.size = new PassSize(mostTokens);
    this.longest = Math.min(LONGEST_BLOCK, mostTokens);
  }

  get atOnce(): number {
    return this.isLost ? 1 : AT_ONCE;
  }

  async encode(item: BlockItem, options: BlockOptions): Promise<Block | undefined> {
    if (this.isLost || item.tokens.length > this.longest || (this.onlyAdapted && !options.adapted)) return undefined;
    return new Promise((resolve, reject) => {
      const later = options.background ? -1 : this.waiting.findIndex(({ background }) => background);
      this.waiting.splice(later < 0 ? this.waiting.length : later, 0, { item, ...options, resolve, reject });
      // Requests in the same turn go into the same pass.
      this.running ??= Promise.resolve().then(() => this.work());
    });
  }

  async close(): Promise<void> {
    await this.running;
    await deviceTurns(() => this.thread.ask("close", undefined)).catch(() => undefined); // a thread that has ended has freed its memory
    await this.thread.close();
  }

  private get isLost(): boolean {
    return this.failures === MOST_FAILURES;
  }

  private async work(): Promise<void> {
    // While the device computes one batch, the thread packs the blocks of the one before it, and prepares the next if that is full.
    let packing = Promise.resolve();
    let next: Batch | undefined;
    for (;;) {
      const batch = next ?? this.take();
      next = undefined;
      if (batch === undefined) {
        await packing;
        if (this.waiting.length === 0) break;
        continue;
      }
      const computing = this.attempt(batch, () => this.compute(batch));
      next = this.take(LEAST_SHARE * this.size.tokens);
      const computed = await computing;
      await packing;
      if (computed) packing = this.attempt(batch, () => this.pack(batch)).then(() => undefined);
      if (!this.isLost) continue;
      for (const { resolve } of next?.blocks ?? []) resolve(undefined);
      next = undefined;
    }
    this.running = undefined;
  }

  /** The next batch, which is being prepared; undefined if nothing waits for it, or it would have fewer tokens than `least`. */
  private take(least = 0): Batch | undefined {
    this.dropCancelled();
    const [first] = this.waiting;
    if (first === undefined) return undefined;
    const { precision } = first;
    const alike = this.waiting.filter((each) => each.precision === precision);
    const lengths = alike.map(({ item, background = false }) => ({ length: item.tokens.length, background }));
    const blocks = batchOf(lengths, this.size.tokens).map((index) => alike[index]!);
    if (tokensOf(blocks) < least) return undefined;
    for (const each of blocks) this.waiting.splice(this.waiting.indexOf(each), 1);
    const number = this.batches++;
    const prepared = this.thread.ask("prepare", { number, items: blocks.map(({ item }) => item), precision });
    prepared.catch(() => undefined); // reported by the pass
    return { number, blocks, prepared };
  }

  private async compute({ number, blocks, prepared }: Batch): Promise<void> {
    await prepared;
    const ms = await deviceTurns(() => this.thread.ask("compute", number));
    this.size.took(tokensOf(blocks), ms);
  }

  private async pack({ number, blocks }: Batch): Promise<void> {
    await new Promise(setImmediate); // the next batch goes to the device first
    const packed = await this.thread.ask("pack", number);
    this.failures = 0;
    blocks.forEach(({ resolve }, i) => resolve(packed[i]!));
  }

  /** @returns false if it failed: the batch waits again, for smaller passes, or has been given up */
  private async attempt({ blocks }: Batch, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (blocks.length === 1) this.fail(blocks[0]!, (error as Error).message.trim());
      else {
        // Fewer tokens may fit in its memory.
        this.size.failed(tokensOf(blocks));
        this.waiting.unshift(...blocks);
      }
      return false;
    }
  }

  private fail({ item, resolve }: Waiting, why: string): void {
    this.failures++;
    resolve(undefined);
    if (!this.isLost)
      return this.onNotice(
        `The device failed to encode a document of ${item.tokens.length} tokens, which is encoded again as a prompt would be: ${why}`,
      );
    this.onLost();
    this.onNotice(`The device is lost, and the processor computes everything from now on: ${why}`);
    for (const each of this.waiting.splice(0)) each.resolve(undefined);
  }

  private dropCancelled(): void {
    for (const each of this.waiting.filter(({ signal }) => signal.aborted)) {
      this.waiting.splice(this.waiting.indexOf(each), 1);
      each.reject(cancelledError(each.signal));
    }
  }
}

/** Including padding. */
function tokensOf(batch: readonly Waiting[]): number {
  return batch.length * Math.max(...batch.map(({ item }) => item.tokens.length));
}
