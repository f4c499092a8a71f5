import type { Backend, Cache, PassPart } from "../../engine/backend/backend.js";
import { Engine } from "../../engine/engine.js";
import { allocateBlock, type Block } from "../../engine/kv/block.js";
import type { BlockSource } from "../../engine/index.js";
import { keptRuns, type Range, type Tokenizer } from "../../plan/index.js";
import { likeLayers } from "./plain-kv.js";

export const VOCABULARY = 64;
export const FAKE_FORM = { layers: likeLayers(1, 1, 2) };

type Row = { readonly token: number; readonly position: number };

/** Rows that say which token stands where; a block's K says which token. */
export class FakeCache implements Cache {
  rows: Row[] = [];
  capacity = 0;

  get length(): number {
    return this.rows.length;
  }

  get positions(): Int32Array {
    return Int32Array.from(this.rows, ({ position }) => position);
  }

  reserve(tokens: number): void {
    this.capacity = Math.max(this.capacity, tokens);
  }

  splice(block: Block, positions: Int32Array, omit: readonly Range[] = []): void {
    for (const [start, end] of keptRuns(block.tokens, omit)) {
      for (let i = start; i < end; i++) this.rows.push({ token: block.k[2 * i]!, position: positions[i]! });
    }
  }

  extract(from: number, to: number): Block {
    const block = allocateBlock(FAKE_FORM.layers, to - from);
    this.rows.slice(from, to).forEach(({ token }, i) => (block.k[2 * i] = token));
    return block;
  }

  truncate(length: number): void {
    this.rows.length = Math.min(this.rows.length, length);
  }
}

export type FakeOptions = {
  readonly slots?: number;
  readonly passTokens?: number;
  /** Awaited by each pass before it computes. */
  readonly before?: (parts: readonly PassPart[]) => Promise<unknown> | void;
};

/** The next token of some rows that are seen: every token and every place in it counts. */
export function nextToken(seen: readonly Row[]): number {
  return seen.reduce((sum, { token, position }) => (sum * 31 + token * 7 + position) % VOCABULARY, 1);
}

/** A backend without weights. The likeliest token is a function of the tokens that are seen and of their positions. */
export class FakeBackend implements Backend {
  readonly form = FAKE_FORM;
  /** Of each pass, the tokens of each part. */
  readonly passes: number[][] = [];
  closed = false;
  widened = false;

  constructor(private readonly options: FakeOptions = {}) {}

  get mostSlots(): number {
    return this.options.slots ?? 8;
  }

  get slots(): number {
    return this.widened ? this.mostSlots : 1;
  }

  widen(): void {
    this.widened = true;
  }

  passTokens(): number {
    return this.options.passTokens ?? 256;
  }

  createCache(): FakeCache {
    return new FakeCache();
  }

  async run(parts: readonly PassPart[]): Promise<Float32Array[]> {
    if (this.closed) throw new Error("A pass on a closed backend.");
    if (parts.length > this.slots) throw new Error(`A pass of ${parts.length} parts, where ${this.slots} are taken.`);
    if (new Set(parts.map(({ cache }) => cache)).size < parts.length) throw new Error("A cache that is in a pass twice.");
    this.passes.push(parts.map(({ tokens }) => tokens.length));
    await this.options.before?.(parts);
    return parts.map(({ cache, tokens, positions, visible, logits }) => {
      const { rows } = cache as FakeCache;
      const wanted = new Float32Array(logits * VOCABULARY);
      tokens.forEach((token, i) => {
        const seen = rows.filter((_, row) => !visible || row < visible.counts[i]! || row >= visible.shared);
        rows.push({ token, position: positions[i]! });
        const row = i - (tokens.length - logits);
        if (row >= 0) wanted[row * VOCABULARY + nextToken([...seen, rows.at(-1)!])] = 1;
      });
      return wanted;
    });
  }

  /** A row is looked at as much as its token says. */
  async look({ cache, tokens }: PassPart): Promise<Float32Array> {
    return Float32Array.from([...(cache as FakeCache).rows.map(({ token }) => token), ...tokens]);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

/** A model over a fake backend: tokens are letters, and none ends an answer. */
export function fakeEngine(backend: FakeBackend): Engine {
  return new Engine({
    id: "fake",
    name: "fake",
    backend,
    precision: "float32",
    keyOf: ({ tokens, offsets, after }: BlockSource) => JSON.stringify([tokens, offsets, after]),
    language: {
      contextLength: 4096,
      tokenizer: { decode: (ids: readonly number[]) => String.fromCharCode(...ids.map((id) => id + 48)) } as Tokenizer,
      chat: { frame: () => ({ open: "", close: "" }), content: (_, text) => text, generationPrompt: "", stop: [], thought: undefined },
      endTokens: new Set(),
      sampling: {},
      card: { maxAnswerTokens: 16 } as never,
    },
  });
}
