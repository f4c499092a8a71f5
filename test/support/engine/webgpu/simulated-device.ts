import type { CpuBackend } from "../../../../engine/backend/cpu/backend.js";
import type { KvCache } from "../../../../engine/backend/cpu/cache.js";
import type { DeviceCalls, Numbered, PromptCalls } from "../../../../engine/backend/webgpu/calls.js";
import type { Block } from "../../../../engine/kv/block.js";
import { keptRuns } from "../../../../plan/index.js";

/** A device's thread whose prompts the processor computes. `before` is called before each call, and may throw. */
export class SimulatedDevice {
  readonly asked: (keyof DeviceCalls)[] = [];
  private readonly prompts = new Map<Numbered, KvCache>();
  private readonly blocks = new Map<Numbered, Block>();

  constructor(
    private readonly processor: CpuBackend,
    private readonly before: (name: keyof DeviceCalls, call: number) => void = () => undefined,
  ) {}

  /** Prompts and blocks that have not been freed. */
  get held(): { readonly prompts: number; readonly blocks: number } {
    return { prompts: this.prompts.size, blocks: this.blocks.size };
  }

  readonly ask = async (name: keyof DeviceCalls, given: unknown): Promise<never> => {
    this.before(name, this.asked.push(name) - 1);
    return (await this.calls[name as keyof PromptCalls](given as never)) as never;
  };

  private readonly calls: { readonly [Name in keyof PromptCalls]: (given: Parameters<PromptCalls[Name]>[0]) => unknown } = {
    answer: () => undefined,
    reserve: ({ prompt, rows }) => {
      const cache = this.prompts.get(prompt) ?? this.processor.createCache();
      cache.reserve(rows);
      this.prompts.set(prompt, cache);
    },
    upload: ({ number, block }) => void this.blocks.set(number, block),
    drop: (number) => void this.blocks.delete(number),
    splice: ({ prompt, splices }) => {
      for (const { block, positions, kept } of splices) {
        const values = this.blocks.get(block)!;
        this.prompts.get(prompt)!.splice(values, positions, keptRuns(values.tokens, kept)); // what is not kept is left out
      }
    },
    widen: () => undefined,
    run: async (parts) => {
      const logits: Float32Array[] = [];
      for (const { prompt, ...part } of parts)
        logits.push((await this.processor.run([{ ...part, cache: this.prompts.get(prompt)! }]))[0]!.slice());
      return logits;
    },
    look: ({ part: { prompt, ...part }, asks }) => this.processor.look({ ...part, cache: this.prompts.get(prompt)! }, asks),
    extract: ({ prompt, from, to, precision }) => this.prompts.get(prompt)!.extract(from, to, precision),
    truncate: ({ prompt, length }) => this.prompts.get(prompt)?.truncate(length),
    free: (prompt) => void this.prompts.delete(prompt),
  };
}
