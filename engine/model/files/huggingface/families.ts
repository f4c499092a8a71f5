import { KvspliceError } from "../../../../plan/index.js";
import type { Config } from "./config.js";
import { readRope, type RopeTensors } from "./rope.js";

/** How one family of Hugging Face's models is written in GGUF, as llama.cpp's converter does (`conversion/`). */
export type Family = {
  /** `general.architecture` */
  readonly architecture: string;
  /** The layer's norm tensors whose names differ from Llama's. */
  readonly norms?: Readonly<Record<string, string>>;
  /** Norm weights that are kept less 1. */
  readonly normsLessOne?: boolean;
  readonly activation: "silu" | "gelu_pytorch_tanh";
  /** Whether tokens see a window, and in which layers. */
  readonly window?: "all" | "listed";
  /** Keys that only this family has. */
  readonly keys?: (config: Config) => Readonly<Record<string, unknown>>;
};

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
    keys: (config) => ({ ...gemmaScale(config), ...config.given("final_logit_softcapping"), "rope.freq_base_swa": config.ropeOf("sliding_attention").theta }),
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
  olmo2: { architecture: "olmo2", activation: "silu", norms: { post_attention_layernorm: "post_attention_norm", post_feedforward_layernorm: "post_ffw_norm" } },
  olmo3: {
    architecture: "olmo2",
    activation: "silu",
    norms: { post_attention_layernorm: "post_attention_norm", post_feedforward_layernorm: "post_ffw_norm" },
    window: "listed",
  },
};

/** @throws KvspliceError `bad_model` for a family that is not translated */
export function familyOf(config: Config): Family {
  const type = config.text("model_type");
  const family = Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined;
  if (family) return family;
  throw new KvspliceError("bad_model", `${config.path} is of the kind ${type}; kvsplice opens folders of ${Object.keys(FAMILIES).join(", ")}. A GGUF file of the model may be supported.`);
}

/** A configuration's keys as GGUF has them, and the tensors that a GGUF has instead of some. */
export function metadataOf(config: Config, family: Family): { readonly keys: Readonly<Record<string, unknown>>; readonly tensors: RopeTensors } {
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
  return { keys: Object.fromEntries(Object.entries(keys).map(([key, value]) => [`${family.architecture}.${key}`, value])), tensors: rope.tensors };
}

/** GGUF's name of a checkpoint's tensor; undefined for one that nothing knows. */
export function tensorName(name: string, { norms = {} }: Family): string | undefined {
  const outside = OUTSIDE_LAYERS[name];
  if (outside !== undefined) return outside;
  const [, layer, rest, kind] = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  const inside = rest === undefined ? undefined : (norms[rest] ?? IN_LAYERS[rest]);
  return inside === undefined ? undefined : `blk.${layer}.${inside}.${kind}`;
}

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

/** What a configuration may say that would change the result, and is not computed. */
function mustBeComputable(config: Config, { activation, window }: Family): void {
  const quantization = config.value("quantization_config");
  if (quantization !== undefined) {
    const method = (quantization as { readonly quant_method?: unknown }).quant_method;
    throw config.wrong("quantization_config", `says that the weights are quantised (${String(method)}), which is not read. Use the model's own checkpoint, or a GGUF file`);
  }
  const given = config.value("hidden_activation") ?? config.value("hidden_act");
  // Gemma's first checkpoints say "gelu", and were trained with the approximation; transformers computes them so, too.
  const meant = activation === "gelu_pytorch_tanh" && given === "gelu" ? activation : given;
  if (meant !== activation) throw config.wrong("hidden_act", `is ${String(given)}, and ${activation} is computed`);
  if (config.value("use_bidirectional_attention") === true) throw config.wrong("use_bidirectional_attention", "is true: tokens see those behind them, so that nothing can be generated");
  if (window === undefined && config.value("use_sliding_window") === true) throw config.wrong("use_sliding_window", "is true, which is not computed for this family");
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

/** GGUF has no key for which of SmolLM 3's layers have no rotary embedding: every fourth. */
function mustSkipEveryFourth(config: Config): Readonly<Record<string, unknown>> {
  const rotates = config.value("no_rope_layers"); // 1 where there is one, whatever its name says
  if (Array.isArray(rotates) && rotates.some((each, layer) => Boolean(each) !== ((layer + 1) % 4 !== 0))) {
    throw config.wrong("no_rope_layers", "is not every fourth layer, which is not computed");
  }
  return {};
}
