import { describe, expect, test } from "vitest";
import type { BlockItem } from "../../../engine/backend/backend.js";
import type { BatchResults } from "../../../engine/backend/webgpu/batch-session.js";
import { deviceTurns, type EncoderCalls, type HostCalls, type SentPass } from "../../../engine/backend/webgpu/calls.js";
import { DeviceEncoder, type DeviceEncoderOptions, type EncoderThreads } from "../../../engine/backend/webgpu/device-encoder.js";
import { mustHave } from "../../../engine/backend/webgpu/lack.js";
import type { Engine } from "../../../engine/engine.js";
import { allocateBlock, type Block } from "../../../engine/kv/block.js";
import type { ModelSpec } from "../../../engine/model/spec.js";
import type { Calls, Thread } from "../../../runtime/thread.js";
import { FAKE_FORM, FakeBackend, fakeEngine } from "../../support/engine/fake-backend.js";

/**
 * A device with memory for `blocks` blocks per pass, which fails blocks of length `fails`, and is lost after `passes` passes. A pass
 * takes `start_ms`, and 1 ms for each block. No block is packed before `packing`.
 */
class FakeDevice {
  readonly passes: (readonly BlockItem[])[] = [];
  closed = false;
  private readonly items = new WeakMap<SentPass, readonly BlockItem[]>();
  private readonly blocks = new WeakMap<BatchResults, Block[]>();

  constructor(
    private readonly able: {
      readonly blocks?: number;
      readonly passes?: number;
      readonly fails?: number;
      readonly start_ms?: number;
      readonly packing?: Promise<void>;
    } = {},
  ) {}

  /** The threads that the encoder asks. */
  get threads(): EncoderThreads {
    const device: EncoderCalls = {
      open: async () => ({ room: { mostTokens: 4096, kvBytes: undefined, several: true }, graph: { inputs: [], outputs: [] } }),
      encode: async (pass) => this.compute(this.items.get(pass)!),
      close: async () => void (this.closed = true),
    };
    const host: Later<HostCalls> = {
      open: () => undefined,
      prepare: async ({ items }) => {
        const pass = { feeds: {}, wanted: [] };
        this.items.set(pass, items);
        return pass;
      },
      pack: async ({ results }) => {
        await this.able.packing;
        return this.blocks.get(results)!;
      },
    };
    return { device: threadOf<EncoderCalls>(device), host: threadOf<HostCalls>(host) };
  }

  private compute(items: readonly BlockItem[]): { results: BatchResults; ms: number } {
    this.passes.push(items);
    if (this.passes.length > (this.able.passes ?? Infinity)) throw new Error("device lost");
    if (items.some(({ tokens }) => tokens.length === this.able.fails)) throw new Error("validation error");
    if (items.length > (this.able.blocks ?? Infinity)) throw new Error("out of memory");
    const blocks = items.map(({ tokens, from }) => {
      const block = allocateBlock(FAKE_FORM.layers, tokens.length - from);
      for (let i = from; i < tokens.length; i++) block.k[2 * (i - from)] = tokens[i]!;
      return block;
    });
    const results = {};
    this.blocks.set(results, blocks);
    return { results, ms: (this.able.start_ms ?? 0) + items.length };
  }
}

/** Calls that may return a promise. */
type Later<C extends Calls> = { readonly [N in keyof C]: (given: Parameters<C[N]>[0]) => ReturnType<C[N]> | Promise<ReturnType<C[N]>> };

/** A thread that answers in this one, one call after the other. */
function threadOf<C extends Calls>(calls: Later<C>): Pick<Thread<C>, "ask" | "close"> {
  let last: Promise<unknown> = Promise.resolve();
  return {
    ask: (name, given) => {
      const answer = last.then(() => calls[name]!(given as never));
      last = answer.catch(() => undefined);
      return answer as never;
    },
    close: async () => undefined,
  };
}

const source = (first: number) => ({ tokens: [first, first + 1, first + 2] });
const long = (first: number) => ({ tokens: Array.from({ length: 128 }, (_, i) => first + i) });
const tokensOf = (block: Block) => Array.from({ length: block.tokens }, (_, i) => block.k[2 * i]);

async function engineWith(
  device: FakeDevice,
  notices: string[] = [],
  more: Partial<DeviceEncoderOptions> = {},
): Promise<{ engine: Engine; backend: FakeBackend }> {
  const encoder = new DeviceEncoder(device.threads, { mostTokens: 4096, onNotice: (notice) => notices.push(notice), ...more });
  const backend = new FakeBackend();
  return { backend, engine: fakeEngine(backend, { encoder }) };
}

describe("a model with a device", () => {
  test("encodes simultaneous requests in one pass on it, and nothing on the processor", async () => {
    const device = new FakeDevice();
    const { engine, backend } = await engineWith(device);
    const blocks = await Promise.all([1, 11, 21].map((first) => engine.encode(source(first))));
    expect(blocks.map(tokensOf)).toEqual([
      [1, 2, 3],
      [11, 12, 13],
      [21, 22, 23],
    ]);
    expect(device.passes.map((items) => items.length)).toEqual([3]);
    expect(backend.passes).toEqual([]);
    expect(engine.encodesAtOnce).toBeGreaterThan(1);
    await engine.close();
    expect(device.closed).toBe(true);
  });

  test.each([
    { start_ms: 100, passes: [4, 4, 4, 8, 8, 8, 16, 16, 12] },
    { start_ms: 0, passes: [4, 4, 4, 8, 8, 8, ...Array<number>(11).fill(4)] },
  ])("gives passes more tokens for as long as that pays by the device's own times: $start_ms ms a pass", async ({ start_ms, passes }) => {
    const device = new FakeDevice({ start_ms });
    const { engine } = await engineWith(device);
    await Promise.all(Array.from({ length: 80 }, (_, i) => engine.encode(long(i))));
    expect(device.passes.map((items) => items.length)).toEqual(passes);
    await engine.close();
  });

  test("keeps passes small while prompts are computed on it, which wait for them", async () => {
    const device = new FakeDevice({ start_ms: 100 });
    const { engine } = await engineWith(device, [], { isAnswering: () => true });
    await Promise.all(Array.from({ length: 40 }, (_, i) => engine.encode(long(i))));
    expect(Math.max(...device.passes.map((items) => items.length))).toBe(4);
  });

  test("leaves the device to others while blocks are packed for longer than passes take", async () => {
    let release = () => {};
    const device = new FakeDevice({ packing: new Promise((resolve) => (release = resolve)) });
    const { engine } = await engineWith(device);
    const blocks = Array.from({ length: 40 }, (_, i) => engine.encode(long(i)));
    await expect.poll(() => device.passes.length).toBeGreaterThan(0);
    await deviceTurns(async () => undefined);
    release();
    expect((await Promise.all(blocks)).map((block) => tokensOf(block)[0])).toEqual(blocks.map((_, i) => i));
  });

  test("encodes the others in passes as before when a block has failed alone", async () => {
    const device = new FakeDevice({ fails: 127 });
    const { engine } = await engineWith(device);
    const bad = { tokens: long(7).tokens.slice(1) };
    await Promise.all(Array.from({ length: 60 }, (_, i) => engine.encode(i === 3 ? bad : long(i))));
    const lengths = device.passes.map((items) => items.length);
    const alone = device.passes.findIndex(([first, ...others]) => first!.tokens.length === 127 && others.length === 0);
    expect(Math.max(...lengths.slice(0, alone))).toBe(4);
    expect(lengths.slice(alone + 3, -1).every((length) => length === 4)).toBe(true);
    expect(lengths.length - alone).toBeGreaterThan(10);
  });

  test("encodes blocks with the tokens that they see and their gaps, and keeps only their own rows", async () => {
    const device = new FakeDevice();
    const { engine } = await engineWith(device);
    const block = await engine.encode({ tokens: [7, 8], offsets: [0, 5], after: [1, 2, 3] });
    expect(device.passes).toEqual([[{ tokens: [1, 2, 3, 7, 8], positions: [0, 1, 2, 3, 8], from: 3 }]]);
    expect(tokensOf(block)).toEqual([7, 8]);
  });

  test("encodes a batch in smaller ones if it does not fit in memory", async () => {
    const device = new FakeDevice({ blocks: 2 });
    const notices: string[] = [];
    const { engine, backend } = await engineWith(device, notices);
    const blocks = await Promise.all(Array.from({ length: 8 }, (_, i) => engine.encode(source(10 * i))));
    expect(blocks.map((block) => tokensOf(block)[0])).toEqual([0, 10, 20, 30, 40, 50, 60, 70]);
    expect(device.passes.map((items) => items.length)).toEqual([8, 4, 4, 2, 2, 2, 2]);
    expect({ notices, passes: backend.passes }).toEqual({ notices: [], passes: [] });
  });

  test("continues with the processor when the device is lost, and reports it", async () => {
    const device = new FakeDevice({ passes: 1 });
    const notices: string[] = [];
    const { engine, backend } = await engineWith(device, notices);
    await engine.encode(source(1));
    const blocks = await Promise.all([11, 21].map((first) => engine.encode(source(first))));
    expect(blocks.map(tokensOf)).toEqual([
      [11, 12, 13],
      [21, 22, 23],
    ]);
    expect(backend.passes.flat()).toEqual([3, 3]);
    expect(notices).toEqual([
      "The device failed to encode a document of 3 tokens, which is encoded again as a prompt would be: device lost",
      "The device is lost, and the processor computes everything from now on: device lost",
    ]);
    const before = device.passes.length;
    await engine.encode(source(31));
    expect(device.passes).toHaveLength(before);
    expect(engine.encodesAtOnce).toBe(1);
  });

  test("leaves a document to the processor if the device fails to encode it, and encodes the others", async () => {
    const device = new FakeDevice({ fails: 5 });
    const notices: string[] = [];
    const { engine, backend } = await engineWith(device, notices);
    const sources = [{ tokens: [1, 2, 3, 4, 5] }, source(11), { tokens: [21, 22, 23, 24, 25] }, source(31)];
    for (const each of sources) expect(tokensOf(await engine.encode(each))).toEqual(each.tokens);
    expect(backend.passes.flat()).toEqual([5, 5]);
    expect(notices).toHaveLength(2);
    expect(engine.encodesAtOnce).toBeGreaterThan(1);
  });

  test("leaves to the processor any block whose scores would take gigabytes", async () => {
    const device = new FakeDevice();
    const { engine, backend } = await engineWith(device);
    await engine.encode({ tokens: new Array<number>(2049).fill(1) });
    expect(device.passes).toEqual([]);
    expect(backend.passes.flat().reduce((sum, count) => sum + count)).toBe(2049);
  });

  test("encodes blocks that an answer waits for before background ones", async () => {
    const device = new FakeDevice({ blocks: 1 });
    const { engine } = await engineWith(device);
    const later = [1, 11].map((first) => engine.encode(source(first), { background: true }));
    await Promise.all([...later, engine.encode(source(21))]);
    const first = device.passes.find((items) => items.length === 1)!;
    expect(first[0]!.tokens).toEqual([21, 22, 23]);
  });

  test("does not encode blocks cancelled while waiting", async () => {
    const device = new FakeDevice();
    const { engine } = await engineWith(device);
    const controller = new AbortController();
    const cancelled = engine.encode(source(1), { signal: controller.signal });
    const other = engine.encode(source(11));
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ code: "cancelled" });
    await other;
    expect(device.passes.map((items) => items.map(({ tokens }) => tokens[0]))).toEqual([[11]]);
  });
});

describe("a device is refused, and the error names what it lacks", () => {
  const attention = { heads: 2, kvHeads: 2, headSize: 4 };
  const spec = (layer: object) => ({ name: "tiny", layers: [layer] }) as unknown as ModelSpec;
  const dense = spec({ attention, feedForward: { kind: "dense" } });
  const wanted = { spec: dense, adapters: [], encoding: "exact", activations: "int8" } as const;

  test.each([
    ["experts", { ...wanted, spec: spec({ attention, feedForward: { kind: "experts" } }) }],
    ["attention sinks", { ...wanted, spec: spec({ attention: { ...attention, sinks: "sinks" }, feedForward: { kind: "dense" } }) }],
    ["adapters with float32 activations", { ...wanted, adapters: [{} as never], activations: "float32" as const }],
    ["adapters of layers whose columns are not a multiple of 32", { ...wanted, adapters: [{} as never] }],
    ["the encoding w8a8", { ...wanted, encoding: "w8a8" as const }],
  ])("for %s", (lack, wanted) => {
    expect(() => mustHave(wanted)).toThrow(`Devices cannot compute ${lack}, which tiny needs here. Use --device cpu.`);
  });

  test("not for a dense model", () => {
    expect(() => mustHave(wanted)).not.toThrow();
  });
});
