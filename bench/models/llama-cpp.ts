import { getLlama, type Llama, type LlamaContextSequence, LlamaLogLevel, type LlamaModel, type Token } from "node-llama-cpp";

let llama: Promise<Llama> | undefined;

function started(): Promise<Llama> {
  return (llama ??= getLlama({
    build: "never",
    gpu: false,
    maxThreads: 2,
    skipDownload: true,
    logLevel: LlamaLogLevel.error,
    progressLogs: false,
  }));
}

/** The release of llama.cpp in use. */
export async function llamaCppRelease(): Promise<string> {
  return (await started()).llamaCppRelease.release;
}

/** A model computed by llama.cpp on the CPU, with KV in float32 and without flash attention. */
export class LlamaCpp implements AsyncDisposable {
  private constructor(
    private readonly model: LlamaModel,
    private readonly sequence: LlamaContextSequence,
  ) {}

  /** @param contextSize positions of the context, by which LongRoPE's factors are chosen */
  static async open(path: string, contextSize: number): Promise<LlamaCpp> {
    const model = await (await started()).loadModel({ modelPath: path });
    const context = await model.createContext({
      contextSize,
      flashAttention: false,
      experimentalKvCacheKeyType: "F32",
      experimentalKvCacheValueType: "F32",
    });
    return new LlamaCpp(model, context.getSequence());
  }

  /** Logits `[vocabulary]` after a prompt, computed with nothing cached. */
  async logits(tokens: readonly number[]): Promise<Float32Array> {
    await this.sequence.clearHistory();
    const found = await this.evaluate(tokens, true);
    const logits = new Float32Array(found.size);
    for (const [token, value] of found) logits[token] = value;
    return logits;
  }

  /** The highest logits after a prompt, by token, highest first: those of a whole vocabulary take longer to transfer than to compute. */
  async highest(tokens: readonly number[], count: number): Promise<ReadonlyMap<number, number>> {
    await this.sequence.clearHistory();
    return this.highestAfter(tokens, count);
  }

  /** The highest logits after further tokens. */
  async highestAfter(tokens: readonly number[], count: number): Promise<ReadonlyMap<number, number>> {
    return new Map([...(await this.evaluate(tokens, { filter: { tokens: [], includeTop: count } }))].sort(([, a], [, b]) => b - a));
  }

  private async evaluate(
    tokens: readonly number[],
    logits: true | { filter: { tokens: Token[]; includeTop: number } },
  ): Promise<ReadonlyMap<number, number>> {
    const ids = tokens as readonly Token[];
    const input: Parameters<LlamaContextSequence["controlledEvaluate"]>[0] = [
      ...ids.slice(0, -1),
      [ids.at(-1)!, { generateNext: { logits } }],
    ];
    return (await this.sequence.controlledEvaluate(input)).at(-1)!.next.logits!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.model.dispose();
  }
}

/** llama.cpp's logits `[vocabulary]` after a prompt. */
export async function llamaCppLogits(path: string, tokens: readonly number[], contextSize = 2048): Promise<Float32Array> {
  await using peer = await LlamaCpp.open(path, contextSize);
  return await peer.logits(tokens); // before the model is disposed
}

/** llama.cpp's tokens of a text, control tokens written as text. */
export async function llamaCppTokens(path: string, text: string): Promise<readonly number[]> {
  const model = await (await started()).loadModel({ modelPath: path });
  const tokens = model.tokenize(text, false, "trimLeadingSpace");
  await model.dispose();
  return tokens;
}
