import { cancelledError } from "../../../plan/index.js";
import { memoryOf, type Thread } from "../../../runtime/thread.js";
import type { Block } from "../../kv/block.js";
import type { BlockEncoder, BlockItem, BlockOptions } from "../backend.js";
import { batchOf, LEAST_SHARE, LEAST_TOKENS, LONGEST_BLOCK, PassSize } from "./batch.js";
import type { Batch } from "./batch-host.js";
import { deviceTurns, type EncoderCalls, type HostCalls, type SentPass } from "./calls.js";
import { memoryOfTensors } from "./tensor-data.js";

type Waiting = BlockOptions & {
  readonly item: BlockItem;
  readonly resolve: (block: Block | undefined) => void;
  readonly reject: (error: unknown) => void;
};

/** Blocks of one pass, which is being prepared. */
type Gathered = { readonly blocks: readonly Waiting[]; readonly batch: Batch; readonly prepared: Promise<SentPass> };

/** Number of blocks worth requesting at once: those of running passes, and enough others that some are of like length. */
const AT_ONCE = 512;

/** A device that fails this many blocks in a row, each alone in its pass, counts as lost. */
const MOST_FAILURES = 2;

/** Threads in which the encoder has been opened. */
export type EncoderThreads = {
  readonly device: Pick<Thread<EncoderCalls>, "ask" | "close">;
  readonly host: Pick<Thread<HostCalls>, "ask" | "close">;
};

export type DeviceEncoderOptions = {
  /** Tokens of one pass that fit in memory. */
  readonly mostTokens: number;
  /** Whether it has the weights of the encoding adapter: then other blocks are not for it. */
  readonly onlyAdapted?: boolean | undefined;
  /** Whether prompts are computed on the device as well: then they wait for one pass at most, which is small. */
  readonly isAnswering?: (() => boolean) | undefined;
  /** Called with a sentence for each block that the device fails, and when it is lost. */
  readonly onNotice: (notice: string) => void;
  /** Called when it is lost. */
  readonly onLost?: (() => void) | undefined;
};

/**
 * Encodes blocks on the device: blocks that gather during a pass form the next one. While the device computes, the host's thread
 * prepares the next pass and packs the blocks of the last one.
 */
export class DeviceEncoder implements BlockEncoder {
  /** In order of arrival; those of a pass that failed come first. */
  private readonly waiting: Waiting[] = [];
  private readonly size: PassSize;
  private readonly longest: number;
  private running: Promise<void> | undefined;
  /** What the next pass takes, of this series or of another one. */
  private next: Gathered | undefined;
  /** Resolves when the blocks of all passes so far have been handed out, or have failed. */
  private packing = Promise.resolve();
  private failures = 0;

  /** @param threads they are closed with this */
  constructor(
    private readonly threads: EncoderThreads,
    private readonly options: DeviceEncoderOptions,
  ) {
    this.size = new PassSize(options.mostTokens);
    this.longest = Math.min(LONGEST_BLOCK, options.mostTokens);
  }

  get atOnce(): number {
    return this.isLost ? 1 : AT_ONCE;
  }

  async encode(item: BlockItem, options: BlockOptions): Promise<Block | undefined> {
    if (this.isLost || item.tokens.length > this.longest || (this.options.onlyAdapted && !options.adapted)) return undefined;
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, ...options, resolve, reject });
      // Requests in the same turn go into the same pass.
      this.running ??= Promise.resolve().then(() => this.work());
    });
  }

  async close(): Promise<void> {
    const { device, host } = this.threads;
    await this.running;
    await deviceTurns(() => device.ask("close", undefined)).catch(() => undefined); // a thread that has ended has freed its memory
    await Promise.all([device.close(), host.close()]);
  }

  private get isLost(): boolean {
    return this.failures === MOST_FAILURES;
  }

  private async work(): Promise<void> {
    do {
      await this.next?.prepared.catch(nothing); // reported by the pass
      await deviceTurns(() => this.series());
      if (!this.next && this.waiting.length === 0) await this.packing; // whoever gets these blocks may request others
    } while (this.next || this.waiting.length > 0);
    this.running = undefined;
  }

  /** One pass after the other, until nothing waits for one, or, after at least one, until something else waits for the device. */
  private async series(): Promise<void> {
    let last: Promise<void> | undefined;
    for (;;) {
      // While a pass runs, the next one is worth preparing if it will be full.
      this.next ??= this.gather(last && LEAST_SHARE * this.tokens);
      const prepared = this.next?.prepared.then(nothing, nothing);
      // The device is left to others while it has nothing to do.
      if (last && prepared && (await Promise.race([prepared, last.then(() => "computed")])) === "computed") return;
      await prepared;
      if (this.next?.blocks.every(({ signal }) => signal.aborted)) this.dropNext();
      if (!this.next || this.options.isAnswering?.()) await last;
      if (last && deviceTurns.pendingCount > 0) return last;
      if (!last && !this.next) return;
      const before = last;
      last = this.next && this.begin(this.next);
      this.next = undefined;
      // The thread has up to two passes: it begins the second without waiting for this thread, which may be busy.
      await before;
    }
  }

  /** Tokens of the next pass. */
  private get tokens(): number {
    return this.options.isAnswering?.() ? Math.min(LEAST_TOKENS, this.size.tokens) : this.size.tokens;
  }

  /** Blocks for the next pass; undefined if nothing waits for it, or it would have fewer tokens than `least`. */
  private gather(least = 0): Gathered | undefined {
    this.dropCancelled();
    const first = this.waiting.find(({ background }) => !background) ?? this.waiting[0];
    if (first === undefined) return undefined;
    const { precision } = first;
    const alike = [first, ...this.waiting.filter((each) => each !== first && each.precision === precision)];
    const lengths = alike.map(({ item, background = false }) => ({ length: item.tokens.length, background }));
    const blocks = batchOf(lengths, this.tokens).map((index) => alike[index]!);
    if (tokensOf(blocks) < least) return undefined;
    for (const each of blocks) this.waiting.splice(this.waiting.indexOf(each), 1);
    const batch = { items: blocks.map(({ item }) => item), precision };
    const prepared = this.threads.host.ask("prepare", batch);
    prepared.catch(nothing); // reported by the pass
    return { blocks, batch, prepared };
  }

  /** Has the device run a pass. The promise resolves when it is done, or has failed; its blocks are handed out afterwards. */
  private begin({ blocks, batch, prepared }: Gathered): Promise<void> {
    const { device, host } = this.threads;
    const encoded = prepared.then((pass) => device.ask("encode", pass, memoryOfTensors(pass.feeds)));
    const packed = encoded
      .then(async ({ results, ms }) => {
        this.size.took(tokensOf(blocks), ms);
        const made = await host.ask("pack", { batch, results }, memoryOf(Object.values(results)));
        if (!this.isLost) this.failures = 0;
        blocks.forEach(({ resolve }, i) => resolve(made[i]!));
      })
      .catch((error: Error) => this.failed(blocks, error.message.trim()));
    this.packing = this.packing.then(() => packed);
    return encoded.then(nothing, nothing);
  }

  /** The blocks wait again, for smaller passes, or are given up. */
  private failed(blocks: readonly Waiting[], why: string): void {
    if (this.isLost) blocks.forEach(({ resolve }) => resolve(undefined));
    else if (blocks.length === 1) this.fail(blocks[0]!, why);
    else {
      // Fewer tokens may fit in its memory.
      this.size.failed(tokensOf(blocks));
      this.waiting.unshift(...blocks);
    }
  }

  private fail({ item, resolve }: Waiting, why: string): void {
    const { onNotice, onLost } = this.options;
    this.failures++;
    this.size.failedAlone();
    resolve(undefined);
    if (!this.isLost)
      return onNotice(
        `The device failed to encode a document of ${item.tokens.length} tokens, which is encoded again as a prompt would be: ${why}`,
      );
    onLost?.();
    onNotice(`The device is lost, and the processor computes everything from now on: ${why}`);
    for (const each of this.waiting.splice(0)) each.resolve(undefined);
  }

  private dropNext(): void {
    for (const { signal, reject } of this.next?.blocks ?? []) reject(cancelledError(signal));
    this.next = undefined;
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

const nothing = () => undefined;
