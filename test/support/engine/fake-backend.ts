import type { Backend, Cache, PassPart } from "../../../engine/backend/backend.js";
import { Engine, type EngineParts } from "../../../engine/engine.js";
import type { BlockSource } from "../../../engine/index.js";
import { allocateBlock, type Block } from "../../../engine/kv/block.js";
import { type KvspliceError, keptRuns, type Range, type Tokenizer } from "../../../plan/index.js";
import { likeLayers } from "./plain-kv.js";

export const VOCABULARY = 64;
export const FAKE_FORM = { layers: likeLayers(1, 1, 2) };

type Row = { readonly token: number; readonly position: number };

/** Rows that record each token and its position; a block's K records its tokens. */
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

  free(): void {
    this.rows = [];
  }
}

export type FakeOptions = {
  /** Size of the vocabulary; 64 by default. */
  readonly vocabulary?: number;
  /** The tokens that it may generate; all by default. */
  readonly says?: readonly number[];
  readonly slots?: number;
  readonly passTokens?: number;
  /** Awaited in each pass before it computes. */
  readonly before?: (parts: readonly PassPart[]) => Promise<unknown> | void;
};

/** The next token given the visible rows, out of `tokens`: it depends on every token and position. */
export function nextToken(seen: readonly Row[], tokens: number = VOCABULARY): number {
  return seen.reduce((sum, { token, position }) => (sum * 31 + token * 7 + position) % tokens, 1);
}

/** A backend without weights. The likeliest token is a function of the visible tokens and their positions. */
export class FakeBackend implements Backend {
  readonly form = FAKE_FORM;
  readonly encodesApart = false;
  /** The tokens of each part, by pass. */
  readonly passes: number[][] = [];
  closed = false;
  failure: KvspliceError | undefined;
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
    const { vocabulary = VOCABULARY, says } = this.options;
    return parts.map(({ cache, tokens, positions, visible, logits }) => {
      const { rows } = cache as FakeCache;
      const wanted = new Float32Array(logits * vocabulary);
      tokens.forEach((token, i) => {
        const seen = rows.filter((_, row) => !visible || row < visible.counts[i]! || row >= visible.shared);
        rows.push({ token, position: positions[i]! });
        const row = i - (tokens.length - logits);
        const next = nextToken([...seen, rows.at(-1)!], says?.length ?? vocabulary);
        if (row >= 0) wanted[row * vocabulary + (says?.[next] ?? next)] = 1;
      });
      return wanted;
    });
  }

  /** A row gets as much attention as its token's number. */
  async look({ cache, tokens }: PassPart): Promise<Float32Array> {
    return Float32Array.from([...(cache as FakeCache).rows.map(({ token }) => token), ...tokens]);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

/** A model over a fake backend: tokens are letters, and no token ends an answer. */
export function fakeEngine(backend: FakeBackend, more: Pick<EngineParts, "encoder"> = {}): Engine {
  return new Engine({
    id: "fake",
    name: "fake",
    backend,
    precision: "float32",
    encoding: "exact",
    ...more,
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
