import { getLlama, type LlamaContext, LlamaLogLevel, type LlamaModel, type Token } from "node-llama-cpp";
import { peakMemory } from "./machine.js";
import { servePeer } from "./peer.js";

export type Prefilled = { readonly first_token_ms: number; readonly per_token_ms: number; readonly ids: readonly number[] };

/** llama.cpp's own default, the fastest here of 128, 512 and 1,300. */
const BATCH_SIZE = 512;

let model: LlamaModel | undefined;
const contexts = new Map<boolean, { context: LlamaContext; sequence: ReturnType<LlamaContext["getSequence"]>; size: number }>();

async function sequenceFor(flashAttention: boolean, size: number, threads: number) {
  const found = contexts.get(flashAttention);
  if (found && found.size >= size) return found.sequence;
  await found?.context.dispose();
  const context = await model!.createContext({
    contextSize: size,
    batchSize: BATCH_SIZE,
    flashAttention,
    threads: { ideal: threads, min: threads },
  });
  const sequence = context.getSequence();
  contexts.set(flashAttention, { context, sequence, size });
  return sequence;
}

type Prompt = {
  readonly tokens: readonly number[];
  readonly flashAttention: boolean;
  readonly newTokens: number;
  readonly threads: number;
  /** Size of the context in tokens; by default, enough for the prompt and its answer. */
  readonly contextSize?: number;
};

const operations = {
  async load({ path, threads }: { path: string; threads: number }): Promise<{ ms: number; gpu: boolean; release: string }> {
    const start = performance.now();
    const llama = await getLlama({
      build: "never",
      gpu: false,
      maxThreads: threads,
      skipDownload: true,
      logLevel: LlamaLogLevel.error,
      progressLogs: false,
    });
    model = await llama.loadModel({ modelPath: path });
    return { ms: performance.now() - start, gpu: llama.gpu !== false, release: llama.llamaCppRelease.release };
  },

  /** The prompt with nothing cached. */
  async prefill({ tokens, flashAttention, newTokens, threads, contextSize = tokens.length + newTokens + 8 }: Prompt): Promise<Prefilled> {
    const sequence = await sequenceFor(flashAttention, contextSize, threads);
    await sequence.clearHistory();
    return generate(sequence, tokens, newTokens, performance.now());
  },

  /** The prompt over the sequence's state from the previous one: the longest common beginning is kept. */
  async prefillAfter({
    tokens,
    flashAttention,
    newTokens,
    threads,
    contextSize = tokens.length + newTokens + 8,
  }: Prompt): Promise<Prefilled & { kept: number }> {
    const sequence = await sequenceFor(flashAttention, contextSize, threads);
    const start = performance.now();
    await sequence.adaptStateToTokens(tokens as Token[], false);
    const kept = Math.min(sequence.nextTokenIndex, tokens.length - 1);
    return { ...(await generate(sequence, tokens.slice(kept), newTokens, start)), kept };
  },

  peakMemory: (_: object): number => peakMemory(),
};

async function generate(
  sequence: ReturnType<LlamaContext["getSequence"]>,
  tokens: readonly number[],
  newTokens: number,
  start: number,
): Promise<Prefilled> {
  const ids: number[] = [];
  let first = 0;
  let last = 0;
  for await (const token of sequence.evaluate(tokens as Token[], { temperature: 0, yieldEogToken: true })) {
    last = performance.now();
    if (ids.length === 0) first = last;
    ids.push(token);
    if (ids.length === newTokens) break;
  }
  return { first_token_ms: first - start, per_token_ms: ids.length > 1 ? (last - first) / (ids.length - 1) : 0, ids };
}

export type LlamaOperations = typeof operations;
servePeer(operations);
