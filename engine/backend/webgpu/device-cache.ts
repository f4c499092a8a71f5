import { keptRuns, type Range } from "../../../plan/index.js";
import type { Block, Precision } from "../../kv/block.js";
import type { Backend, Cache, PassPart } from "../backend.js";
import type { Numbered } from "./calls.js";
import { DeviceFailure, type PromptDevice } from "./prompt-device.js";

type MadeOfBlock = {
  readonly kind: "block";
  readonly block: Block;
  readonly positions: Int32Array;
  readonly omit: readonly Range[];
};

/** What some rows were made from: a spliced block, or computed tokens. */
type Made = MadeOfBlock | ({ readonly kind: "tokens" } & Pick<PassPart, "tokens" | "positions" | "visible">);

/** A part of a pass over one of these caches; those that are adapted are for the processor. */
type Part = PassPart & { readonly cache: DeviceCache };

/**
 * The KV of a prompt on the device. It remembers what its rows were made from: if the device fails or is full, the processor
 * makes them again, and continues until the cache is emptied.
 */
export class DeviceCache implements Cache {
  private rows = 0;
  private room = 0;
  /** What the rows on the device were made from, in order. */
  private made: readonly Made[] = [];
  /** The rows on the processor, once it has taken over. */
  private moved: Cache | undefined;
  private turn: Promise<unknown> = Promise.resolve();
  /** Splices that wait for the same turn, which are done together if nothing comes in between. */
  private splicing: { readonly all: MadeOfBlock[]; readonly done: Promise<void>; readonly turn: Promise<unknown> } | undefined;

  constructor(
    private readonly number: Numbered,
    private readonly device: PromptDevice,
    private readonly processor: Backend,
  ) {}

  get length(): number {
    return this.rows;
  }

  get capacity(): number {
    return this.room;
  }

  reserve(tokens: number): Promise<void> {
    return this.somewhere(
      () => this.grow(tokens),
      async (cache) => {
        await cache.reserve(tokens);
        this.room = cache.capacity;
      },
    );
  }

  splice(block: Block, positions: Int32Array, omit: readonly Range[] = []): Promise<void> {
    const made: MadeOfBlock = { kind: "block", block, positions, omit };
    this.rows += rowsOf(made);
    const last = this.splicing;
    if (last && last.turn === this.turn) {
      last.all.push(made); // it has not begun yet
      return last.done;
    }
    const all = [made];
    const done = this.inTurn(() => {
      this.splicing = undefined;
      return this.here(
        () => this.spliceAll(all),
        async (cache) => {
          for (const each of all) await cache.splice(each.block, each.positions, each.omit);
        },
      );
    });
    this.splicing = { all, done, turn: this.turn };
    return done;
  }

  extract(from: number, to: number, precision: Precision): Promise<Block> {
    return this.somewhere(
      () => this.device.extract(this.number, from, to, precision),
      (cache) => cache.extract(from, to, precision),
    );
  }

  truncate(length: number): void {
    if (length >= this.rows) return;
    this.rows = length;
    void this.inTurn(async () => {
      this.made = firstRows(this.made, length);
      if (!this.moved) return this.device.truncate(this.number, length);
      this.moved.truncate(length);
      if (length > 0 || this.device.isLost) return;
      // The next prompt may be computed on the device again.
      this.moved.free();
      this.moved = undefined;
      this.room = 0;
    });
  }

  free(): void {
    void this.inTurn(async () => {
      this.made = [];
      if (this.moved) this.moved.free();
      else this.device.free(this.number);
    });
  }

  /** One pass over prompts, each of a different cache of this kind: see `Backend.run`. */
  static async run(parts: readonly Part[], device: PromptDevice, processor: Backend): Promise<Float32Array[]> {
    const leaves = await Promise.all(parts.map(({ cache }) => cache.enter()));
    try {
      const logits = new Map<Part, Float32Array>();
      for (const { cache, adapted } of parts) if (adapted && !cache.moved) await cache.move();
      const there = parts.filter(({ cache }) => !cache.moved);
      try {
        for (const { cache, tokens } of there) await cache.makeRoom(tokens.length);
        const found = there.length > 0 ? await device.run(there.map(({ cache, ...part }) => ({ ...part, prompt: cache.number }))) : [];
        there.forEach((part, i) => {
          const { cache, tokens, positions, visible } = part;
          cache.made = [...cache.made, { kind: "tokens", tokens, positions, visible }];
          logits.set(part, found[i]!);
        });
      } catch (error) {
        if (!(error instanceof DeviceFailure)) throw error;
        for (const { cache } of there) await cache.move();
      }
      const others = parts.filter((part) => !logits.has(part));
      for (let from = 0; from < others.length; ) {
        const some = others.slice(from, from + processor.slots);
        const found = await processor.run(some.map((part) => ({ ...part, cache: part.cache.moved! })));
        some.forEach((part, i) => void logits.set(part, found[i]!));
        from += some.length;
      }
      for (const { cache, tokens } of parts) cache.rows += tokens.length;
      return parts.map((part) => logits.get(part)!);
    } finally {
      for (const leave of leaves) leave();
    }
  }

  /** See `Backend.look`. */
  look(part: Omit<PassPart, "cache">, asks: readonly number[]): Promise<Float32Array> {
    return this.somewhere(
      async () => {
        await this.makeRoom(part.tokens.length);
        return this.device.look({ ...part, prompt: this.number }, asks);
      },
      (cache) => this.processor.look({ ...part, cache }, asks),
    );
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.turn.then(work);
    this.turn = done.catch(() => undefined);
    return done;
  }

  private somewhere<T>(onDevice: () => Promise<T>, onProcessor: (cache: Cache) => T | Promise<T>): Promise<T> {
    return this.inTurn(() => this.here(onDevice, onProcessor));
  }

  private async here<T>(onDevice: () => Promise<T>, onProcessor: (cache: Cache) => T | Promise<T>): Promise<T> {
    if (!this.moved) {
      try {
        return await onDevice();
      } catch (error) {
        if (!(error instanceof DeviceFailure)) throw error;
        await this.move();
      }
    }
    return onProcessor(this.moved!);
  }

  /** Waits for this cache's turn, which lasts until the returned function is called. */
  private enter(): Promise<() => void> {
    return new Promise((entered) => void this.inTurn(() => new Promise<void>((leave) => entered(leave))));
  }

  private async spliceAll(all: readonly MadeOfBlock[]): Promise<void> {
    await this.makeRoom(all.reduce((sum, made) => sum + rowsOf(made), 0));
    const splices = all.map(({ block, positions, omit }) => ({ block, positions, kept: keptRuns(block.tokens, omit) }));
    await this.device.splice(this.number, splices);
    this.made = [...this.made, ...all];
  }

  private async move(): Promise<void> {
    this.moved = await this.copied();
    this.made = [];
    this.device.free(this.number);
  }

  /** Makes room for rows on the device. */
  private async makeRoom(more: number): Promise<void> {
    const rows = this.made.reduce((sum, each) => sum + rowsOf(each), more);
    if (rows > this.room) await this.grow(Math.max(rows, 2 * this.room));
  }

  private async grow(rows: number): Promise<void> {
    if (rows <= this.room) return;
    await this.device.reserve(this.number, rows);
    this.room = rows;
  }

  /** The rows, made on the processor. */
  private async copied(): Promise<Cache> {
    const cache = this.processor.createCache();
    try {
      await cache.reserve(this.room);
      for (const made of this.made) {
        if (made.kind === "block") await cache.splice(made.block, made.positions, made.omit);
        else await this.recompute(cache, made);
      }
      return cache;
    } catch (error) {
      cache.free();
      throw error;
    }
  }

  private async recompute(cache: Cache, { tokens, positions, visible }: Extract<Made, { kind: "tokens" }>): Promise<void> {
    for (let from = 0; from < tokens.length; ) {
      const to = Math.min(tokens.length, from + this.processor.passTokens(cache.length));
      await this.processor.run([
        {
          cache,
          tokens: tokens.slice(from, to),
          positions: positions.slice(from, to),
          visible: visible && { ...visible, counts: visible.counts.slice(from, to) },
          logits: 0,
        },
      ]);
      from = to;
    }
  }
}

function lengthOf(runs: readonly Range[]): number {
  return runs.reduce((sum, [start, end]) => sum + end - start, 0);
}

function rowsOf(made: Made): number {
  return made.kind === "tokens" ? made.tokens.length : lengthOf(keptRuns(made.block.tokens, made.omit));
}

/** What the first rows were made from. */
function firstRows(all: readonly Made[], length: number): readonly Made[] {
  const first: Made[] = [];
  let left = length;
  for (const made of all) {
    const rows = Math.min(left, rowsOf(made));
    if (rows === 0) break;
    first.push(rows === rowsOf(made) ? made : shortened(made, rows));
    left -= rows;
  }
  return first;
}

function shortened(made: Made, rows: number): Made {
  if (made.kind === "tokens") {
    const { kind, tokens, positions, visible } = made;
    return {
      kind,
      tokens: tokens.slice(0, rows),
      positions: positions.slice(0, rows),
      visible: visible && { ...visible, counts: visible.counts.slice(0, rows) },
    };
  }
  let left = rows;
  for (const [start, end] of keptRuns(made.block.tokens, made.omit)) {
    if (left <= end - start) return { ...made, omit: [...made.omit, [start + left, made.block.tokens]] };
    left -= end - start;
  }
  return made;
}
