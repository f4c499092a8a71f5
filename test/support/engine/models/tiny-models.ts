import type { GgufValue } from "../files/write-gguf.js";

/** What a tiny model's file has in addition to the tensors common to all. */
export type Extra =
  | "head"
  | "head bias"
  | "qkv biases"
  | "output bias"
  | "feed-forward biases"
  | "head norms"
  | "row norms"
  | "norms after"
  | "norms after alone"
  | "fused"
  | "experts' biases"
  | "sinks";

/** A model with random weights, small enough to be made in a test. */
export type TinyModel = {
  readonly architecture: string;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  readonly layers: number;
  readonly feedForward: number;
  readonly has: readonly Extra[];
  /** Metadata, without the architecture that keys begin with. */
  readonly keys?: Readonly<Record<string, GgufValue>>;
  readonly tensors?: Readonly<Record<string, readonly number[]>>;
  readonly embeddingGain?: number;
  /** The number of experts, and how many a token uses. */
  readonly experts?: { readonly count: number; readonly used: number };
  /** What matrices are quantised to; float32 if omitted. */
  readonly type?: "Q8_0" | "Q4_0";
  /** Positions that it is opened for; those of the file (2,048) if omitted. */
  readonly context?: number;
};

/** Windows of the tiny models: shorter than their prompts. */
export const WINDOW = 16;

const plain: TinyModel = {
  architecture: "llama",
  hidden: 64,
  heads: 4,
  kvHeads: 2,
  headSize: 16,
  layers: 3,
  feedForward: 96,
  has: ["head"],
};
const of = (architecture: string, changes: Partial<TinyModel> = {}): TinyModel => ({ ...plain, architecture, ...changes });

const number = (value: number): GgufValue => ({ float32: value });
const count = (value: number): GgufValue => ({ uint32: value });
const text = (value: string): GgufValue => ({ string: value });
/** Evenly spaced numbers from `first` to `last`. */
const between = (first: number, last: number, length: number) =>
  Array.from({ length }, (_, i) => first + ((last - first) * i) / (length - 1));

const yarn = { "rope.scaling.type": text("yarn"), "rope.scaling.factor": number(4), "rope.scaling.original_context_length": count(64) };
const longFactors = (length: number) => ({
  "rope_factors_long.weight": between(1, 30, length),
  "rope_factors_short.weight": between(1, 3, length),
});
const gemma = { embeddingGain: 0.3, headSize: 32, has: [] } as const;

const longRope: Partial<TinyModel> = {
  kvHeads: 4,
  has: ["head", "fused"],
  keys: {
    "rope.scaling.original_context_length": count(512),
    "rope.scaling.attn_factor": number(1.19),
    "attention.sliding_window": count(WINDOW),
  },
  tensors: longFactors(8),
};

/** One model for each family and each optional content of a file. */
export const TINY_MODELS: Readonly<Record<string, TinyModel>> = {
  llama: of("llama"),
  "llama, head tied": of("llama", { has: [] }),
  "llama, one KV head": of("llama", { kvHeads: 1 }),
  "llama, as many KV heads": of("llama", { kvHeads: 4 }),
  "llama, large heads": of("llama", { headSize: 64 }),
  "llama, heads of 20": of("llama", { headSize: 20 }),
  "llama, Llama 3's frequencies": of("llama", {
    keys: { "rope.freq_base": number(500_000) },
    tensors: { "rope_freqs.weight": between(1, 8, 8) },
  }),
  "llama, linear scaling": of("llama", { keys: { "rope.scaling.type": text("linear"), "rope.scaling.factor": number(4) } }),
  "llama, a factor without a type": of("llama", { keys: { "rope.scaling.factor": number(4) } }),
  "llama, the old name of the factor": of("llama", { keys: { "rope.scale_linear": number(4) } }),
  "llama, no scaling but a factor": of("llama", { keys: { "rope.scaling.type": text("none"), "rope.scaling.factor": number(4) } }),
  "llama, YaRN": of("llama", { keys: yarn }),
  "llama, attention factor": of("llama", { keys: { "rope.scaling.attn_factor": number(1.5) } }),
  "llama, biases of Q, K and V": of("llama", { has: ["head", "qkv biases"] }),
  "llama, bias of attention's output": of("llama", { has: ["head", "output bias"] }),
  "llama, biases of the feed-forward": of("llama", { has: ["head", "feed-forward biases"] }),
  qwen2: of("qwen2", { has: ["qkv biases"], keys: { "rope.freq_base": number(1_000_000) } }),
  "qwen2, YaRN": of("qwen2", { has: ["qkv biases"], keys: yarn }),
  "qwen2, bias of the head": of("qwen2", { has: ["head", "head bias", "qkv biases"] }),
  "llama, experts": of("llama", { experts: { count: 8, used: 2 } }),
  qwen3moe: of("qwen3moe", { headSize: 32, has: ["head norms"], experts: { count: 6, used: 3 } }),
  "gpt-oss": of("gpt-oss", {
    layers: 4,
    has: ["head", "qkv biases", "output bias", "sinks", "experts' biases"],
    experts: { count: 4, used: 2 },
    keys: { ...yarn, "attention.sliding_window": count(WINDOW) },
  }),
  qwen3: of("qwen3", { headSize: 32, has: ["head norms"], keys: { "rope.freq_base": number(1_000_000) } }),
  mistral3: of("mistral3", {
    headSize: 32,
    keys: { ...yarn, "rope.scaling.yarn_log_multiplier": number(1), "rope.scaling.yarn_beta_fast": number(4) },
  }),
  gemma: of("gemma", gemma),
  gemma2: of("gemma2", {
    ...gemma,
    layers: 4,
    has: ["norms after"],
    keys: { "attention.sliding_window": count(WINDOW), attn_logit_softcapping: number(5), final_logit_softcapping: number(10) },
  }),
  gemma3: of("gemma3", {
    ...gemma,
    layers: 6,
    has: ["norms after", "head norms"],
    keys: { "attention.sliding_window": count(WINDOW), "rope.freq_base": number(1_000_000) },
  }),
  "gemma3, linear scaling": of("gemma3", {
    ...gemma,
    layers: 6,
    has: ["norms after", "head norms"],
    keys: {
      "attention.sliding_window": count(WINDOW),
      "rope.freq_base": number(1_000_000),
      "rope.scaling.type": text("linear"),
      "rope.scaling.factor": number(8),
    },
  }),
  phi3: of("phi3", { kvHeads: 4, has: ["head", "fused"] }),
  "phi3, LongRoPE": of("phi3", longRope),
  "phi3, LongRoPE's short factors": of("phi3", { ...longRope, context: 256 }),
  "phi3, LongRoPE of a part of each head": of("phi3", {
    has: ["fused"],
    keys: {
      "rope.dimension_count": count(12),
      "rope.scaling.original_context_length": count(512),
      "rope.scaling.attn_factor": number(1.4),
    },
    tensors: longFactors(6),
  }),
  smollm3: of("smollm3", { layers: 4, has: [], keys: { "rope.freq_base": number(5_000_000) } }),
  granite: of("granite", {
    has: [],
    keys: { embedding_scale: number(2), residual_scale: number(0.22), logit_scale: number(8), "attention.scale": number(0.1) },
  }),
  olmo2: of("olmo2", { has: ["head", "row norms", "norms after alone"] }),
  "olmo2, windows and YaRN": of("olmo2", {
    layers: 4,
    has: ["head", "row norms", "norms after alone"],
    keys: { ...yarn, "attention.sliding_window": count(WINDOW) },
  }),
};

/** The prompt of the golden logits: longer than the windows. */
export const PROMPT: readonly number[] = Array.from({ length: 40 }, (_, i) => 3 + ((i * 37 + 11) % 250));
