import { KvspliceError } from "../../../../plan/index.js";
import type { Config } from "./config.js";
import { type RopeTensors, readRope } from "./rope.js";

/** How one of Hugging Face's model families is written in GGUF, as llama.cpp's converter does (`conversion/`). */
export type Family = {
  /** `general.architecture` */
  readonly architecture: string;
  /** The layer's norm tensors whose names differ from Llama's. */
  readonly norms?: Readonly<Record<string, string>>;
  /** Norm weights are stored less 1. */
  readonly normsLessOne?: boolean;
  readonly activation: "silu" | "gelu_pytorch_tanh";
  /** Which layers have a window, if any do. */
  readonly window?: "all" | "listed";
  /** The names of the experts' tensors within a layer; `#` stands for the expert's number. */
  readonly experts?: ExpertNames;
  /** Whether all experts are in one tensor, with gate and up alternating, as floats or in MXFP4. */
  readonly fusedExperts?: boolean;
  /** Keys that only this family has. */
  readonly keys?: (config: Config) => Readonly<Record<string, unknown>>;
};

type ExpertNames = { readonly router: string; readonly gate?: string; readonly up?: string; readonly down?: string };

const SANDWICH = {
  post_attention_layernorm: "post_attention_norm",
  pre_feedforward_layernorm: "ffn_norm",
  post_feedforward_layernorm: "post_ffw_norm",
};

const gemmaScale = (config: Config) => ({ "attention.scale": config.number("query_pre_attn_scalar") ** -0.5 });

/** By `model_type`. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  llama: { architecture: "llama", activation: "silu" },
  mistral: { architecture: "llama", activation: "silu", window: "all" },
  qwen2: { architecture: "qwen2", activation: "silu" },
  qwen3: { architecture: "qwen3", activation: "silu" },
  mixtral: {
    architecture: "llama",
    activation: "silu",
    window: "all",
    experts: {
      router: "block_sparse_moe.gate",
      gate: "block_sparse_moe.experts.#.w1",
      up: "block_sparse_moe.experts.#.w3",
      down: "block_sparse_moe.experts.#.w2",
    },
    keys: (config) => ({ expert_count: config.number("num_local_experts"), expert_used_count: config.number("num_experts_per_tok") }),
  },
  qwen3_moe: {
    architecture: "qwen3moe",
    activation: "silu",
    experts: { router: "mlp.gate", gate: "mlp.experts.#.gate_proj", up: "mlp.experts.#.up_proj", down: "mlp.experts.#.down_proj" },
    keys: qwenExperts,
  },
  gpt_oss: {
    architecture: "gpt-oss",
    activation: "silu",
    window: "listed",
    norms: { post_attention_layernorm: "post_attention_norm" },
    experts: { router: "mlp.router" },
    fusedExperts: true,
    keys: gptOssExperts,
  },
  gemma: { architecture: "gemma", activation: "gelu_pytorch_tanh", normsLessOne: true },
  gemma2: {
    architecture: "gemma2",
    activation: "gelu_pytorch_tanh",
    normsLessOne: true,
    norms: SANDWICH,
    window: "listed",
    keys: (config) => ({
      ...gemmaScale(config),
      attn_logit_softcapping: config.number("attn_logit_softcapping"),
      final_logit_softcapping: config.number("final_logit_softcapping"),
    }),
  },
  gemma3_text: {
    architecture: "gemma3",
    activation: "gelu_pytorch_tanh",
    normsLessOne: true,
    norms: SANDWICH,
    window: "listed",
    keys: (config) => ({
      ...gemmaScale(config),
      ...config.given("final_logit_softcapping"),
      "rope.freq_base_swa": config.ropeOf("sliding_attention").theta,
    }),
  },
  phi3: { architecture: "phi3", activation: "silu", window: "all" },
  smollm3: { architecture: "smollm3", activation: "silu", keys: mustSkipEveryFourth },
  granite: {
    architecture: "granite",
    activation: "silu",
    keys: (config) => ({
      embedding_scale: config.number("embedding_multiplier"),
      residual_scale: config.number("residual_multiplier"),
      "attention.scale": config.number("attention_multiplier"),
      logit_scale: config.number("logits_scaling"),
    }),
  },
  olmo2: {
    architecture: "olmo2",
    activation: "silu",
    norms: { post_attention_layernorm: "post_attention_norm", post_feedforward_layernorm: "post_ffw_norm" },
  },
  olmo3: {
    architecture: "olmo2",
    activation: "silu",
    norms: { post_attention_layernorm: "post_attention_norm", post_feedforward_layernorm: "post_ffw_norm" },
    window: "listed",
  },
};

/** @throws KvspliceError `bad_model` for an unsupported family */
export function familyOf(config: Config): Family {
  const type = config.text("model_type");
  const family = Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined;
  if (family) return family;
  throw new KvspliceError(
    "bad_model",
    `${config.path} has the model type ${type}; kvsplice opens folders of ${Object.keys(FAMILIES).join(", ")}. A GGUF file of the model may be supported.`,
  );
}

/** A configuration's keys as GGUF has them, and the tensors that GGUF uses instead of some of them. */
export function metadataOf(
  config: Config,
  family: Family,
): { readonly keys: Readonly<Record<string, unknown>>; readonly tensors: RopeTensors } {
  mustBeComputable(config, family);
  const headSize = config.headSize;
  const rope = readRope(config, headSize);
  const keys = {
    context_length: config.number("max_position_embeddings"),
    embedding_length: config.number("hidden_size"),
    block_count: config.layers,
    feed_forward_length: config.number("intermediate_size"),
    "attention.head_count": config.number("num_attention_heads"),
    "attention.head_count_kv": config.number("num_key_value_heads", config.number("num_attention_heads")),
    "attention.key_length": headSize,
    "attention.value_length": headSize,
    "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps"),
    ...rope.keys,
    ...windowKeys(config, family),
    ...family.keys?.(config),
  };
  return {
    keys: Object.fromEntries(Object.entries(keys).map(([key, value]) => [`${family.architecture}.${key}`, value])),
    tensors: rope.tensors,
  };
}

/** GGUF's name for a checkpoint's tensor, and which expert it belongs to if GGUF combines several. */
export type TensorPlace = { readonly name: string; readonly expert: number | undefined };

/** Where GGUF has a checkpoint's tensor; undefined if the name is unknown. */
export function tensorPlace(name: string, { norms = {}, experts }: Family): TensorPlace | undefined {
  const outside = OUTSIDE_LAYERS[name];
  if (outside !== undefined) return { name: outside, expert: undefined };
  const sinks = /^model\.layers\.(\d+)\.self_attn\.sinks$/.exec(name)?.[1];
  if (sinks !== undefined) return { name: `blk.${sinks}.attn_sinks.weight`, expert: undefined };
  const [, layer, rest, kind] = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  if (rest === undefined) return undefined;
  const expert = /\.experts\.(\d{1,6})\./.exec(rest)?.[1];
  const inside =
    expert === undefined
      ? (norms[rest] ?? IN_LAYERS[rest] ?? expertName(rest, experts))
      : expertName(rest.replace(`.${expert}.`, ".#."), experts);
  return inside === undefined
    ? undefined
    : { name: `blk.${layer}.${inside}.${kind}`, expert: expert === undefined ? undefined : Number(expert) };
}

function expertName(name: string, experts: ExpertNames | undefined): string | undefined {
  const part = experts && (Object.keys(experts) as (keyof ExpertNames)[]).find((part) => experts[part] === name);
  return part && IN_EXPERTS[part];
}

const IN_EXPERTS: Readonly<Record<keyof ExpertNames, string>> = {
  router: "ffn_gate_inp",
  gate: "ffn_gate_exps",
  up: "ffn_up_exps",
  down: "ffn_down_exps",
};

const OUTSIDE_LAYERS: Readonly<Record<string, string>> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
  "lm_head.bias": "output.bias",
};

const IN_LAYERS: Readonly<Record<string, string>> = {
  input_layernorm: "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.qkv_proj": "attn_qkv",
  "self_attn.o_proj": "attn_output",
  "self_attn.q_norm": "attn_q_norm",
  "self_attn.k_norm": "attn_k_norm",
  post_attention_layernorm: "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.gate_up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

/** Checks for settings that would change the result and are not supported. */
function mustBeComputable(config: Config, { activation, window, fusedExperts }: Family): void {
  const quantization = config.value("quantization_config");
  const method = (quantization as { readonly quant_method?: unknown } | undefined)?.quant_method;
  if (quantization !== undefined && !(fusedExperts && method === "mxfp4")) {
    throw config.wrong(
      "quantization_config",
      `says that the weights are quantised (${String(method)}), which is not supported. Use the model's own checkpoint, or a GGUF file`,
    );
  }
  const given = config.value("hidden_activation") ?? config.value("hidden_act");
  // Gemma's first checkpoints say "gelu", but were trained with the approximation; transformers computes them that way, too.
  const meant = activation === "gelu_pytorch_tanh" && given === "gelu" ? activation : given;
  if (meant !== activation) throw config.wrong("hidden_act", `is ${String(given)}; only ${activation} is supported`);
  if (config.value("use_bidirectional_attention") === true)
    throw config.wrong("use_bidirectional_attention", "is true: tokens see later tokens, so the model cannot generate text");
  if (window === undefined && config.value("use_sliding_window") === true)
    throw config.wrong("use_sliding_window", "is true, which is not supported for this family");
}

function windowKeys(config: Config, { window }: Family): Readonly<Record<string, unknown>> {
  const size = config.value("sliding_window");
  if (window === undefined || typeof size !== "number") return {};
  if (window === "all") return { "attention.sliding_window": size };
  const listed = config.value("layer_types");
  const period = config.value("sliding_window_pattern");
  const pattern = Array.isArray(listed) ? listed.map((type) => type === "sliding_attention") : period;
  return { "attention.sliding_window": size, ...(pattern !== undefined && { "attention.sliding_window_pattern": pattern }) };
}

/** GGUF has no key for which of SmolLM 3's layers have no rotary embedding: every fourth has none. */
function mustSkipEveryFourth(config: Config): Readonly<Record<string, unknown>> {
  const rotates = config.value("no_rope_layers"); // 1 means that the layer has one, despite the key's name
  if (Array.isArray(rotates) && rotates.some((each, layer) => Boolean(each) !== ((layer + 1) % 4 !== 0))) {
    throw config.wrong("no_rope_layers", "is not every fourth layer, which is not supported");
  }
  return {};
}

/** Qwen 3's experts, checking for settings that the published models do not use. */
function qwenExperts(config: Config): Readonly<Record<string, unknown>> {
  if (config.value("norm_topk_prob") !== true)
    throw config.wrong("norm_topk_prob", "is not true: the shares of a token's experts do not add up to 1, which is not supported");
  const dense = config.value("mlp_only_layers");
  if (config.number("decoder_sparse_step", 1) !== 1 || (Array.isArray(dense) && dense.length > 0))
    throw config.wrong("mlp_only_layers", "or decoder_sparse_step leaves some layers without experts, which is not supported");
  return {
    expert_count: config.number("num_experts", config.number("num_local_experts", 0)),
    expert_used_count: config.number("num_experts_per_tok"),
    expert_feed_forward_length: config.number("moe_intermediate_size"),
  };
}

function gptOssExperts(config: Config): Readonly<Record<string, unknown>> {
  for (const [key, computed] of Object.entries({ swiglu_limit: 7, swiglu_alpha: 1.702 })) {
    if (config.number(key, computed) !== computed) throw config.wrong(key, `is not ${computed}, the only supported value`);
  }
  return {
    expert_count: config.number("num_local_experts"),
    expert_used_count: config.number("num_experts_per_tok", config.number("experts_per_token", 0)),
    expert_feed_forward_length: config.number("intermediate_size"),
  };
}
