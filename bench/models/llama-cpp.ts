import { getLlama, LlamaLogLevel, type Llama, type Token } from "node-llama-cpp";

let llama: Promise<Llama> | undefined;

function started(): Promise<Llama> {
  return (llama ??= getLlama({ build: "never", gpu: false, maxThreads: 2, skipDownload: true, logLevel: LlamaLogLevel.error, progressLogs: false }));
}

/** The release of llama.cpp that answers. */
export async function llamaCppRelease(): Promise<string> {
  return (await started()).llamaCppRelease.release;
}

/**
 * llama.cpp's logits `[vocabulary]` after a prompt, on the CPU, with KV in float32 and without flash attention.
 * @param contextSize positions that the context is made for: what LongRoPE's factors are chosen by
 */
export async function llamaCppLogits(path: string, tokens: readonly number[], contextSize = 2048): Promise<Float32Array> {
  const model = await (await started()).loadModel({ modelPath: path });
  try {
    const context = await model.createContext({
      contextSize,
      flashAttention: false,
      experimentalKvCacheKeyType: "F32",
      experimentalKvCacheValueType: "F32",
    });
    const ids = tokens as readonly Token[];
    const input = [...ids.slice(0, -1), [ids.at(-1)!, { generateNext: { probabilities: false, logits: true } }] as [Token, object]];
    const results = await context.getSequence().controlledEvaluate(input as Parameters<ReturnType<typeof context.getSequence>["controlledEvaluate"]>[0]);
    const found = (results.at(-1)!.next as unknown as { logits: Map<number, number> }).logits;
    const logits = new Float32Array(found.size);
    for (const [token, value] of found) logits[token] = value;
    return logits;
  } finally {
    await model.dispose();
  }
}

/** llama.cpp's tokens of a text, control tokens written as text. */
export async function llamaCppTokens(path: string, text: string): Promise<readonly number[]> {
  const model = await (await started()).loadModel({ modelPath: path });
  const tokens = model.tokenize(text, false, "trimLeadingSpace");
  await model.dispose();
  return tokens;
}
