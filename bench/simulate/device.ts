import type { EncoderCalls, Numbered } from "../../engine/backend/webgpu/calls.js";
import { arraysOf, type Block, emptyBlock } from "../../engine/kv/block.js";
import { answer, moved } from "../../runtime/thread.js";

/** What a pass takes on an H200 by docs/gpu.md: 1,300 tokens at 12,600 tokens/s and 4,160 at 14,900, Qwen2.5-Coder 1.5B. */
const PASS_MS = 23;
const TOKEN_MS = 0.0615;

/** What the blocks of that model consist of. */
const LAYERS = Array.from({ length: 28 }, () => ({ heads: 2, headSize: 128 }));

/** Tokens of each block in a batch. */
const batches = new Map<Numbered, readonly number[]>();

// The program of a device's thread that computes nothing, but takes the time and returns blocks of the right size.
answer<EncoderCalls>({
  open: async () => ({ mostTokens: Infinity, kvBytes: undefined, several: true }),
  prepare({ number, items }) {
    batches.set(
      number,
      items.map(({ tokens }) => tokens.length),
    );
  },
  async compute(number) {
    const lengths = batches.get(number)!;
    const ms = PASS_MS + TOKEN_MS * lengths.length * Math.max(...lengths);
    await new Promise((resolve) => setTimeout(resolve, ms));
    return ms;
  },
  async pack(number) {
    const blocks = batches.get(number)!.map((tokens): Block => emptyBlock(LAYERS, tokens, "int8"));
    batches.delete(number);
    return moved(
      blocks,
      blocks.flatMap((block) => arraysOf(block).map(({ buffer }) => buffer as ArrayBuffer)),
    );
  },
  close: async () => undefined,
});
