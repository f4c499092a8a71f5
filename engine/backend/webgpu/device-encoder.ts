import { cancelledError } from "../../../plan/index.js";
import type { Thread } from "../../../runtime/thread.js";
import type { Block, Precision } from "../../kv/block.js";
import type { BlockEncoder, BlockItem, BlockOptions } from "../backend.js";
import { batchOf, LONGEST_BLOCK, PassSize } from "./batch.js";
import { deviceTurns, type EncoderCalls } from "./calls.js";

type Waiting = BlockOptions & {
  readonly item: BlockItem;
  readonly resolve: (block: Block | undefined) => void;
  readonly reject: (error: unknown) => void;
};

/** While the device computes one pass, the thread packs the blocks of the other. */
const MOST_PASSES = 2;

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

  /**
   * @param thread in which the encoder has been opened; it is closed with this
   * @param mostTokens of one pass that fit in memory
   * @param onNotice called with a sentence for each block that the device fails, and when it is lost
   */
  constructor(
    private readonly thread: EncoderThread,
    mostTokens: number,
    private readonly onNotice: (notice: string) => void,
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
    const running = new Set<Promise<void>>();
    for (;;) {
      this.dropCancelled();
      const [first] = this.waiting;
      if (first === undefined || running.size === MOST_PASSES) {
        if (running.size === 0) break;
        await Promise.race(running);
        continue;
      }
      const alike = this.waiting.filter(({ precision }) => precision === first.precision);
      const lengths = alike.map(({ item }) => item.tokens.length);
      const chosen = batchOf(lengths, this.size.tokens).map((index) => alike[index]!);
      for (const each of chosen) this.waiting.splice(this.waiting.indexOf(each), 1);
      const pass = this.pass(chosen, first.precision).then(() => void running.delete(pass));
      running.add(pass);
    }
    this.running = undefined;
  }

  private async pass(batch: readonly Waiting[], precision: Precision): Promise<void> {
    const tokens = batch.length * Math.max(...batch.map(({ item }) => item.tokens.length));
    try {
      const blocks = await deviceTurns(async () => {
        const start = performance.now();
        const made = await this.thread.ask("encode", { items: batch.map(({ item }) => item), precision });
        this.size.took(tokens, performance.now() - start);
        return made;
      });
      this.failures = 0;
      batch.forEach(({ resolve }, i) => resolve(blocks[i]!));
    } catch (error) {
      if (batch.length === 1) return this.fail(batch[0]!, (error as Error).message.trim());
      // Fewer tokens may fit in its memory.
      this.size.failed(tokens);
      this.waiting.unshift(...batch);
    }
  }

  private fail({ item, resolve }: Waiting, why: string): void {
    this.failures++;
    resolve(undefined);
    if (!this.isLost)
      return this.onNotice(`The device failed to encode a document of ${item.tokens.length} tokens, so the processor encodes it: ${why}`);
    this.onNotice(`The device is lost, and the processor encodes all documents from now on: ${why}`);
    for (const each of this.waiting.splice(0)) each.resolve(undefined);
  }

  private dropCancelled(): void {
    for (const each of this.waiting.filter(({ signal }) => signal.aborted)) {
      this.waiting.splice(this.waiting.indexOf(each), 1);
      each.reject(cancelledError(each.signal));
    }
  }
}
