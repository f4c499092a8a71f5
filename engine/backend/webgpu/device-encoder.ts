import { cancelledError } from "../../../plan/index.js";
import type { Thread } from "../../../runtime/thread.js";
import type { Block } from "../../kv/block.js";
import type { BlockEncoder, BlockItem, BlockOptions } from "../backend.js";
import { batchOf, LONGEST_BLOCK, PassSize } from "./batch.js";
import { deviceTurns, type EncoderCalls } from "./calls.js";

type Waiting = BlockOptions & {
  readonly item: BlockItem;
  readonly resolve: (block: Block | undefined) => void;
  readonly reject: (error: unknown) => void;
};

/** Number of blocks worth requesting at once: those of running passes, and those that gather for the next. */
const AT_ONCE = 128;

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
   */
  constructor(
    private readonly thread: EncoderThread,
    mostTokens: number,
    private readonly onNotice: (notice: string) => void,
    private readonly onLost: () => void = () => undefined,
  ) {
    this.size = new PassSize(mostTokens);
    this.longest = Math.min(LONGEST_BLOCK, mostTokens);
  }

  get atOnce(): number {
    return this.isLost ? 1 : AT_ONCE;
  }

  async encode(item: BlockItem, options: BlockOptions): Promise<Block | undefined> {
    if (this.isLost || item.tokens.length > this.longest) return undefined;
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
    // While the device computes one batch, the thread packs the blocks of the one before it.
    let packing = Promise.resolve();
    for (;;) {
      this.dropCancelled();
      const [first] = this.waiting;
      if (first === undefined) {
        await packing;
        if (this.waiting.length === 0) break;
        continue;
      }
      const alike = this.waiting.filter(({ precision }) => precision === first.precision);
      const lengths = alike.map(({ item }) => item.tokens.length);
      const chosen = batchOf(lengths, this.size.tokens).map((index) => alike[index]!);
      for (const each of chosen) this.waiting.splice(this.waiting.indexOf(each), 1);
      const number = this.batches++;
      const computed = await this.attempt(chosen, () => this.compute(number, chosen));
      await packing;
      if (computed) packing = this.attempt(chosen, () => this.pack(number, chosen)).then(() => undefined);
    }
    this.running = undefined;
  }

  private compute(number: number, batch: readonly Waiting[]): Promise<void> {
    const items = batch.map(({ item }) => item);
    return deviceTurns(async () => {
      const start = performance.now();
      await this.thread.ask("compute", { number, items });
      this.size.took(tokensOf(batch), performance.now() - start);
    });
  }

  private async pack(number: number, batch: readonly Waiting[]): Promise<void> {
    await new Promise(setImmediate); // the next batch goes to the device first
    const blocks = await this.thread.ask("pack", { number, precision: batch[0]!.precision });
    this.failures = 0;
    batch.forEach(({ resolve }, i) => resolve(blocks[i]!));
  }

  /** @returns false if it failed: the batch waits again, for smaller passes, or has been given up */
  private async attempt(batch: readonly Waiting[], work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (batch.length === 1) this.fail(batch[0]!, (error as Error).message.trim());
      else {
        // Fewer tokens may fit in its memory.
        this.size.failed(tokensOf(batch));
        this.waiting.unshift(...batch);
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
