/**
 * Compares a model file's logits with llama.cpp's after a few prompts: for the file as it is, and for the same weights
 * written as float32, for which llama.cpp does not quantise activations as it does for quantised weights.
 * Usage: npx tsx models/compare.ts FILE, in bench/; the floats take 4 bytes per weight in the folder for temporary files.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel, type Model, type Plan } from "../../engine/index.js";
import type { ModelFile } from "../../engine/model/files/model-file.js";
import { openModelFile } from "../../engine/model/files/open.js";
import { dequantize } from "../../engine/model/tensors/index.js";
import { agreement } from "../../test/support/engine/models/agreement.js";
import { llamaCppLogits, llamaCppRelease } from "./llama-cpp.js";

const path = process.argv[2]!;
const article = readFileSync(new URL("../../examples/corpus/forth-bridge.md", import.meta.url), "utf8");
const PROMPTS = [
  "The capital of France is",
  "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
  `${article.slice(0, 3000)}\n\nQuestion: Who designed the Forth Bridge?\nAnswer:`,
];

const folder = mkdtempSync(join(tmpdir(), "kvsplice-floats-"));
const floats = join(folder, "floats.gguf");
try {
  const file = openModelFile(path);
  writeFloats(file, path, floats);
  file.close();
  const model = await loadModel({ path, activations: "int8" });
  const exact = await loadModel({ path, activations: "float32" });
  console.log(`${path}, llama.cpp ${await llamaCppRelease()}`);
  for (const prompt of PROMPTS) {
    const tokens = model.tokenizer.encode(prompt);
    const plan = { pieces: [{ tokens, at: 0 }] };
    const [quantised, unquantised] = [await model.logits(plan), await exact.logits(plan)];
    const times = [await timeOf(model, plan), await timeOf(exact, plan)];
    const [peer, exactPeer] = [await llamaCppLogits(path, tokens), await llamaCppLogits(floats, tokens)];
    console.log(`${tokens.length} tokens: ${times[0]!.toFixed(0)} ms with int8 activations, ${times[1]!.toFixed(0)} ms with float32 ones`);
    report("  float32 activations and llama.cpp on floats", unquantised, exactPeer);
    report("  int8 activations and llama.cpp on the file ", quantised, peer);
    report("  int8 activations and llama.cpp on floats   ", quantised, exactPeer);
    report("  llama.cpp on the file and itself on floats ", peer, exactPeer);
  }
  await model.close();
  await exact.close();
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(0);

/** The fastest of a few runs, in milliseconds. */
async function timeOf(model: Model, plan: Plan): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await model.logits(plan);
    times.push(performance.now() - start);
  }
  return Math.min(...times);
}

function report(what: string, own: Float32Array, reference: Float32Array): void {
  const { correlation, difference, topTen } = agreement(own, reference);
  console.log(`${what}: correlation ${correlation.toFixed(6)}, difference ${difference.toFixed(4)}, ${topTen} of the top ten`);
}

/** The file's metadata unchanged, and its tensors as float32. */
function writeFloats(file: ModelFile, from: string, to: string): void {
  const names = [...file.names()];
  const source = readFileSync(from);
  const [u64, u32] = [
    (value: number | bigint) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer),
    (value: number) => Buffer.from(Uint32Array.of(value).buffer),
  ];
  const header: Buffer[] = [Buffer.from(source.subarray(0, 24)), Buffer.from(source.subarray(24, endOfMetadata(source)))];
  let offset = 0;
  for (const name of names) {
    const { shape } = file.info(name);
    const text = Buffer.from(name);
    header.push(u64(text.length), text, u32(shape.length), ...[...shape].reverse().map(u64), u32(0), u64(offset));
    offset += Math.ceil((shape.reduce((a, b) => a * b, 1) * 4) / 32) * 32;
  }
  const head = Buffer.concat(header);
  const out = openSync(to, "w");
  writeSync(out, Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32)]));
  for (const name of names) {
    const values = dequantize(file.tensor(name));
    writeSync(out, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    writeSync(out, new Uint8Array((32 - ((values.length * 4) % 32)) % 32));
  }
  closeSync(out);
}

/** Where a GGUF's metadata ends; ggml's docs/gguf.md describes the types. */
function endOfMetadata(bytes: Buffer): number {
  const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
  let at = 24;
  const length = () => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const skipText = () => {
    const bytes = length();
    at += bytes;
  };
  const skip = (type: number): void => {
    if (type === 8) skipText();
    else if (type === 9) {
      const item = bytes.readUInt32LE((at += 4) - 4);
      const count = length();
      if (item < 8 || item > 9) at += count * sizes[item]!;
      else for (let i = 0; i < count; i++) skip(item);
    } else at += sizes[type]!;
  };
  const entries = Number(bytes.readBigUInt64LE(16));
  for (let i = 0; i < entries; i++) {
    skipText();
    skip(bytes.readUInt32LE((at += 4) - 4));
  }
  return at;
}
