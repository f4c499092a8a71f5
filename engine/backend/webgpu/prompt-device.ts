import type { Range } from "../../../plan/index.js";
import { memoryOf } from "../../../runtime/thread.js";
import { type Block, blockBytes, copyBlock, type Precision } from "../../kv/block.js";
import { type DeviceCalls, type DeviceThread, deviceTurns, type Numbered, type NumberedPart } from "./calls.js";
import type { Room } from "./memory.js";
import { PROMPT_SLOTS } from "./prompt-attention.js";

/** The device failed, or has no memory left: the processor takes over. */
export class DeviceFailure extends Error {}

/** A device that fails this many times in a row counts as lost. */
const MOST_FAILURES = 2;

/** Bytes of blocks that stay on the device if its memory has no limit; otherwise half of what is for KV. */
const BLOCK_BYTES = 2 ** 30;

/** Bytes of the KV, in float32, that is spliced at once: there are several copies of it. */
const SPLICE_BYTES = 2 ** 28;

/** A block, the position of each token, and which of them are spliced. */
export type Splice = { readonly block: Block; readonly positions: Int32Array; readonly kept: readonly Range[] };

/** Bytes of a block on the device. */
function sizeOf(block: Block): number {
  return block.precision === "float16" ? 2 * blockBytes(block) : blockBytes(block);
}

/** The prompts and blocks on a device, and the passes over them; it is opened on first use. */
export class PromptDevice {
  private opening: Promise<void> | undefined;
  private failures = 0;
  private wasFull = false;
  private numbers = 0;
  private several: "closed" | "opening" | "open" = "closed";
  /** Rows of each prompt's buffers. */
  private readonly rooms = new Map<Numbered, number>();
  /** Bytes of each block, the one used longest ago first. */
  private readonly blocks = new Map<Numbered, number>();
  private readonly numberOf = new WeakMap<Block, Numbered>();

  /**
   * @param rowBytes of the KV of one token
   * @param check tries the device once it is open; a rejection means that it must not be used
   * @param onNotice called with a sentence when the device fails, is full, or is lost
   */
  constructor(
    private readonly thread: DeviceThread,
    private readonly rowBytes: number,
    private readonly room: Pick<Room, "kvBytes" | "several">,
    private readonly check: (thread: DeviceThread) => Promise<void>,
    private readonly onNotice: (notice: string) => void,
  ) {}

  /** Whether the processor does everything from now on. */
  get isLost(): boolean {
    return this.failures >= MOST_FAILURES;
  }

  /** Whether prompts have been computed here, and others may follow at any time. */
  get isOpen(): boolean {
    return this.opening !== undefined && !this.isLost;
  }

  /** The device is known to be lost. */
  giveUp(): void {
    this.failures = MOST_FAILURES;
  }

  /** Maximum prompts in a pass at present. */
  get slots(): number {
    return this.several === "open" ? PROMPT_SLOTS : 1;
  }

  /** Prepares passes over several prompts, if there is room for that. */
  widen(): void {
    if (this.several !== "closed" || !this.room.several || this.isLost) return;
    this.several = "opening";
    deviceTurns(() => this.thread.ask("widen", undefined)).then(
      () => (this.several = "open"),
      () => undefined, // then it stays one at a time
    );
  }

  /** @throws DeviceFailure, like all of the following */
  async reserve(prompt: Numbered, rows: number): Promise<void> {
    await this.attempt(async () => {
      const before = this.rooms.get(prompt) ?? 0;
      this.mustFit(rows * this.rowBytes); // in addition to the present ones, which are copied
      await this.thread.ask("reserve", { prompt, rows });
      this.rooms.set(prompt, Math.max(before, rows));
    });
  }

  /** Splices blocks one after the other, as many at once as is good. */
  splice(prompt: Numbered, splices: readonly Splice[]): Promise<void> {
    return this.attempt(async () => {
      for (let from = 0; from < splices.length; ) {
        const some = this.firstOf(splices.slice(from));
        const numbers: Numbered[] = [];
        for (const { block } of some) numbers.push(await this.held(block)); // those used last are dropped last
        const given = some.map(({ positions, kept }, i) => ({ block: numbers[i]!, positions, kept }));
        await this.thread.ask("splice", { prompt, splices: given });
        from += some.length;
      }
    });
  }

  /** Logits for each part: see `PromptPasses.run`. */
  run(parts: readonly NumberedPart[]): Promise<Float32Array[]> {
    return this.attempt(async () => {
      const found = await this.thread.ask("run", parts);
      this.failures = 0;
      return found;
    });
  }

  look(part: NumberedPart, asks: readonly number[]): Promise<Float32Array> {
    return this.attempt(() => this.thread.ask("look", { part, asks }));
  }

  extract(prompt: Numbered, from: number, to: number, precision: Precision): Promise<Block> {
    return this.attempt(() => this.thread.ask("extract", { prompt, from, to, precision }));
  }

  truncate(prompt: Numbered, length: number): void {
    this.tell("truncate", { prompt, length });
  }

  free(prompt: Numbered): void {
    if (this.rooms.delete(prompt)) this.tell("free", prompt);
  }

  /** Calls that cannot fail while the thread lives. They too wait for the present pass, of any model. */
  private tell<N extends "truncate" | "free" | "drop">(name: N, given: Parameters<DeviceCalls[N]>[0]): void {
    deviceTurns(() => this.thread.ask(name, given)).catch(() => undefined);
  }

  private async attempt<T>(work: () => Promise<T>): Promise<T> {
    if (this.isLost) throw new DeviceFailure();
    return deviceTurns(async () => {
      try {
        await (this.opening ??= this.open());
        return await work();
      } catch (cause) {
        if (cause instanceof DeviceFailure) throw cause;
        this.fail((cause as Error).message.trim());
        throw new DeviceFailure("", { cause });
      }
    });
  }

  private async open(): Promise<void> {
    try {
      await this.thread.ask("answer", undefined);
      await this.check(this.thread);
    } catch (error) {
      this.failures = MOST_FAILURES - 1; // trying again would end in the same way
      throw error;
    }
  }

  private fail(why: string): void {
    this.failures++;
    this.onNotice(
      this.isLost
        ? `The device is lost, and the processor computes all answers from now on: ${why}`
        : `The device failed, so the processor computes the answer: ${why}`,
    );
  }

  /** As many splices as may be done at once, at least one: all their blocks are on the device. */
  private firstOf(splices: readonly Splice[]): readonly Splice[] {
    const { kvBytes } = this.room;
    const prompts = this.rowBytes * this.used(this.rooms.values());
    const most = kvBytes === undefined ? BLOCK_BYTES : Math.min(kvBytes / 2, kvBytes - prompts);
    let [tokens, bytes] = [0, 0];
    const beyond = splices.findIndex(({ block }, i) => {
      tokens += block.tokens;
      bytes += sizeOf(block);
      return i > 0 && (bytes > most || tokens * this.rowBytes > SPLICE_BYTES);
    });
    return beyond < 0 ? splices : splices.slice(0, beyond);
  }

  /** The number of a block on the device, where it is from now on. */
  private async held(block: Block): Promise<Numbered> {
    const known = this.numberOf.get(block);
    const bytes = known === undefined ? undefined : this.blocks.get(known);
    if (known !== undefined && bytes !== undefined) {
      this.blocks.delete(known);
      this.blocks.set(known, bytes);
      return known;
    }
    const number = this.numbers++;
    const size = sizeOf(block);
    const most = this.room.kvBytes === undefined ? BLOCK_BYTES : this.room.kvBytes / 2;
    while (this.blocks.size > 0 && this.used(this.blocks.values()) + size > most) this.dropOldest();
    this.mustFit(size);
    // In a message, the whole memory of its arrays would be copied.
    const copy = copyBlock(block, new ArrayBuffer(blockBytes(block)));
    await this.thread.ask("upload", { number, block: copy }, memoryOf([copy.k]));
    this.numberOf.set(block, number);
    this.blocks.set(number, size);
    return number;
  }

  /** Drops blocks until this many bytes fit. */
  private mustFit(bytes: number): void {
    if (this.room.kvBytes === undefined) return;
    const prompts = this.rowBytes * this.used(this.rooms.values());
    while (this.blocks.size > 0 && prompts + this.used(this.blocks.values()) + bytes > this.room.kvBytes) this.dropOldest();
    if (prompts + bytes <= this.room.kvBytes) return;
    if (!this.wasFull)
      this.onNotice(
        "The device's memory is full, so the processor computes an answer. A larger --device-memory has room for it; this is not reported again.",
      );
    this.wasFull = true;
    throw new DeviceFailure();
  }

  private used(sizes: Iterable<number>): number {
    let sum = 0;
    for (const size of sizes) sum += size;
    return sum;
  }

  private dropOldest(): void {
    const [oldest] = this.blocks.keys();
    this.blocks.delete(oldest!);
    this.tell("drop", oldest!);
  }
}
