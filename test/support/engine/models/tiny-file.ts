import { writeFileSync } from "node:fs";
import { quantize } from "../../../../engine/model/tensors/quantize.js";
import { F32, type GgufTensor, type GgufValue, writeGguf } from "../files/write-gguf.js";
import { numbersOf, type Random } from "./random.js";
import type { TinyModel } from "./tiny-models.js";

/** The texts of tokens: the bytes as GPT-2 writes them, some merges, and control tokens. */
const MERGES = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi".split(" ");
const CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const [NORMAL, CONTROL_TYPE] = [1, 3];
const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/** The character that GPT-2's vocabularies use for each byte. */
function byteTexts(): string[] {
  const shown = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(shown(byte) ? byte : next++));
}

export const VOCABULARY: readonly string[] = [...byteTexts(), ...MERGES, ...CONTROL];

function tokenizerOf(): Record<string, GgufValue> {
  return {
    "tokenizer.ggml.model": { string: "gpt2" },
    "tokenizer.ggml.pre": { string: "gpt-2" },
    "tokenizer.ggml.tokens": { strings: VOCABULARY },
    "tokenizer.ggml.token_type": { int32s: VOCABULARY.map((token) => (CONTROL.includes(token) ? CONTROL_TYPE : NORMAL)) },
    "tokenizer.ggml.merges": { strings: MERGES.map((pair) => `${pair[0]!} ${pair[1]!}`) },
    "tokenizer.ggml.eos_token_id": { uint32: VOCABULARY.indexOf("<|im_end|>") },
    "tokenizer.ggml.bos_token_id": { uint32: VOCABULARY.indexOf("<|endoftext|>") },
    "tokenizer.chat_template": { string: CHATML },
  };
}

/** `ggml_type`'s numbers. */
const TYPE_NUMBERS = { Q4_0: 2, Q8_0: 8 } as const;

/** Writes named tensors of random numbers. */
class TensorWriter {
  readonly tensors: GgufTensor[] = [];

  constructor(
    private readonly random: Random,
    private readonly type: TinyModel["type"],
  ) {}

  matrix(name: string, rows: number, columns: number, gain = 1): void {
    this.add(name, [rows, columns], (value) => (value * gain) / Math.sqrt(columns));
    if (!this.type) return;
    const { bytes, ...tensor } = this.tensors.pop()!;
    this.tensors.push({ ...tensor, type: TYPE_NUMBERS[this.type], bytes: quantize(new Float32Array(bytes.buffer), this.type) });
  }

  vector(name: string, length: number, mean: number, spread: number): void {
    this.add(name, [length], (value) => mean + value * spread);
  }

  values(name: string, values: readonly number[]): void {
    this.tensors.push({ name, type: F32, shape: [values.length], bytes: new Uint8Array(Float32Array.from(values).buffer) });
  }

  add(name: string, shape: readonly number[], scaled: (value: number) => number): void {
    const values = numbersOf(
      this.random,
      shape.reduce((a, b) => a * b, 1),
    ).map(scaled);
    this.tensors.push({ name, type: F32, shape: [...shape].reverse(), bytes: new Uint8Array(values.buffer) });
  }
}

/** A GGUF of a tiny model, with the same bytes on every machine. */
export function tinyGguf(model: TinyModel): Buffer {
  const { architecture: arch, hidden, heads, kvHeads, headSize, layers, feedForward, has } = model;
  const metadata: Record<string, GgufValue> = {
    "general.architecture": { string: arch },
    "general.name": { string: "tiny" },
    [`${arch}.context_length`]: { uint32: 2048 },
    [`${arch}.embedding_length`]: { uint32: hidden },
    [`${arch}.block_count`]: { uint32: layers },
    [`${arch}.feed_forward_length`]: { uint32: feedForward },
    [`${arch}.attention.head_count`]: { uint32: heads },
    [`${arch}.attention.head_count_kv`]: { uint32: kvHeads },
    [`${arch}.attention.layer_norm_rms_epsilon`]: { float32: 1e-6 },
    [`${arch}.attention.key_length`]: { uint32: headSize },
    [`${arch}.attention.value_length`]: { uint32: headSize },
    [`${arch}.rope.dimension_count`]: { uint32: headSize },
    ...(model.experts && {
      [`${arch}.expert_count`]: { uint32: model.experts.count },
      [`${arch}.expert_used_count`]: { uint32: model.experts.used },
      [`${arch}.expert_feed_forward_length`]: { uint32: feedForward },
    }),
    ...Object.fromEntries(Object.entries(model.keys ?? {}).map(([key, value]) => [`${arch}.${key}`, value])),
    ...tokenizerOf(),
  };
  const [q, kv] = [heads * headSize, kvHeads * headSize];
  const out = new TensorWriter({ state: 1 }, model.type);
  out.add("token_embd.weight", [VOCABULARY.length, hidden], (value) => value * (model.embeddingGain ?? 1));
  out.vector("output_norm.weight", hidden, 1, 0.15);
  if (has.includes("head")) out.matrix("output.weight", VOCABULARY.length, hidden);
  if (has.includes("head bias")) out.vector("output.bias", VOCABULARY.length, 0, 2);
  for (const [name, values] of Object.entries(model.tensors ?? {})) out.values(name, values);
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string) => `blk.${layer}.${name}`;
    const norm = (name: string) => out.vector(at(`${name}.weight`), hidden, 1, 0.15);
    if (!has.includes("norms after alone")) norm("attn_norm");
    if (has.includes("fused")) out.matrix(at("attn_qkv.weight"), q + 2 * kv, hidden, 1.7);
    else {
      out.matrix(at("attn_q.weight"), q, hidden, 1.7);
      out.matrix(at("attn_k.weight"), kv, hidden, 1.7);
      out.matrix(at("attn_v.weight"), kv, hidden);
    }
    if (has.includes("fused") && has.includes("qkv biases")) out.vector(at("attn_qkv.bias"), q + 2 * kv, 0, 0.5);
    else if (has.includes("qkv biases"))
      for (const [name, length] of [
        ["q", q],
        ["k", kv],
        ["v", kv],
      ] as const)
        out.vector(at(`attn_${name}.bias`), length, 0, 0.5);
    out.matrix(at("attn_output.weight"), hidden, q);
    if (has.includes("output bias")) out.vector(at("attn_output.bias"), hidden, 0, 0.5);
    if (has.includes("head norms")) for (const name of ["q", "k"]) out.vector(at(`attn_${name}_norm.weight`), headSize, 1.3, 0.3);
    if (has.includes("row norms"))
      for (const [name, length] of [
        ["q", q],
        ["k", kv],
      ] as const)
        out.vector(at(`attn_${name}_norm.weight`), length, 1.3, 0.3);
    if (has.includes("sinks")) out.vector(at("attn_sinks.weight"), heads, 0, 1);
    if (has.includes("norms after") || has.includes("norms after alone") || arch === "gpt-oss") norm("post_attention_norm");
    if (!has.includes("norms after alone") && arch !== "gpt-oss") norm("ffn_norm");
    if (has.includes("norms after") || has.includes("norms after alone")) norm("post_ffw_norm");
    if (model.experts) {
      const { count } = model.experts;
      out.matrix(at("ffn_gate_inp.weight"), count, hidden, 2);
      for (const [name, rows, columns] of [
        ["gate", feedForward, hidden],
        ["up", feedForward, hidden],
        ["down", hidden, feedForward],
      ] as const) {
        out.add(at(`ffn_${name}_exps.weight`), [count, rows, columns], (value) => (2 * value) / Math.sqrt(columns));
        if (has.includes("experts' biases")) out.add(at(`ffn_${name}_exps.bias`), [count, rows], (value) => value * 0.3);
      }
      if (has.includes("experts' biases")) out.vector(at("ffn_gate_inp.bias"), count, 0, 0.3);
      continue;
    }
    if (!has.includes("fused")) out.matrix(at("ffn_gate.weight"), feedForward, hidden);
    out.matrix(at("ffn_up.weight"), has.includes("fused") ? 2 * feedForward : feedForward, hidden);
    out.matrix(at("ffn_down.weight"), hidden, feedForward);
    if (has.includes("feed-forward biases")) {
      for (const [name, length] of [
        ["gate", feedForward],
        ["up", feedForward],
        ["down", hidden],
      ] as const)
        out.vector(at(`ffn_${name}.bias`), length, 0, 0.3);
    }
  }
  return writeGguf(metadata, out.tensors);
}

export function writeTiny(path: string, model: TinyModel): void {
  writeFileSync(path, tinyGguf(model));
}
