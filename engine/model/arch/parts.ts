import type { Activation, AttentionSpec, FeedForwardSpec, HeadNorm, LayerSpec, LinearSpec, ModelSpec } from "../spec.js";
import type { SpecReader } from "./reader.js";

/** Sizes that every decoder's metadata gives under the same keys. */
export type Sizes = {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
};

export function readSizes(file: SpecReader): Sizes {
  const hidden = file.count("embedding_length");
  const heads = file.count("attention.head_count");
  const kvHeads = file.count("attention.head_count_kv", heads);
  const headSize = file.count("attention.key_length", hidden / heads);
  if (file.count("attention.value_length", headSize) !== headSize)
    throw file.wrong("attention.value_length", "differs from its key_length, which is not supported");
  if (heads % kvHeads !== 0) throw file.wrong("attention.head_count_kv", `is ${kvHeads}, which does not divide the ${heads} heads`);
  if (headSize % 2 !== 0)
    throw file.wrong("attention.key_length", `makes heads of ${headSize} dimensions; only even numbers are supported`);
  return { layers: file.layers, hidden, heads, kvHeads, headSize };
}

/** Everything in a model except its layers and rotary embedding, with the usual names. */
export function readFrame(file: SpecReader): Omit<ModelSpec, "layers" | "rotaries" | "variant"> {
  return {
    name: file.name,
    contextLength: file.contextLength,
    vocabulary: file.vocabulary,
    hidden: file.count("embedding_length"),
    normEpsilon: file.number("attention.layer_norm_rms_epsilon"),
    embedding: { tensor: file.tensor("token_embd.weight"), scale: 1 },
    norm: file.tensor("output_norm.weight"),
    head: { weight: readHead(file), scale: 1 },
  };
}

/** The head's own weight, or the embedding's if it has none. */
function readHead(file: SpecReader): LinearSpec {
  return { tensor: file.optionalTensor("output.weight") ?? file.tensor("token_embd.weight"), bias: file.optionalTensor("output.bias") };
}

/** How the layers of different families differ. */
export type LayerOptions = {
  /** How llama.cpp arranges the dimensions of a head that rotate together; in Hugging Face's files they are halves. */
  readonly pairs: NonNullable<LinearSpec["pairs"]>;
  /** Where RMS norms are: before attention and feed-forward (if omitted), after them, or both. */
  readonly norms?: "before" | "after" | "both";
  /** RMS norms of queries and keys. */
  readonly headNorms?: HeadNorm["over"];
  readonly activation?: Activation;
  /** Whether gate and up are one tensor, `ffn_up`. */
  readonly fusedGate?: boolean;
  /** Index of the kind of rotary embedding, or none; 0 if omitted. */
  readonly rotary?: number | "none";
  readonly window?: number | undefined;
  /** Scale of the scores; 1 / sqrt(head_size) if omitted. */
  readonly scale?: number;
  readonly softCap?: number | undefined;
  readonly residualScale?: number;
  /** Whether each head has a sink. */
  readonly sinks?: boolean;
  /** The norm before the feed-forward; `ffn_norm` if omitted. */
  readonly feedForwardNorm?: string;
};

/** A layer whose tensors have the usual names. */
export function readLayer(file: SpecReader, layer: number, sizes: Sizes, options: LayerOptions): LayerSpec {
  const { norms = "before", rotary = 0, residualScale = 1 } = options;
  const norm = (name: string, where: "before" | "after") =>
    norms === where || norms === "both" ? file.tensor(`blk.${layer}.${name}.weight`) : undefined;
  const headNorm = (name: string): HeadNorm | undefined =>
    options.headNorms && { tensor: file.tensor(`blk.${layer}.${name}.weight`), over: options.headNorms };
  return {
    attention: {
      ...readProjections(file, layer, sizes, file.origin === "gguf" ? options.pairs : "halves"),
      before: norm("attn_norm", "before"),
      after: norm("post_attention_norm", "after"),
      queryNorm: headNorm("attn_q_norm"),
      keyNorm: headNorm("attn_k_norm"),
      rotary: rotary === "none" ? undefined : rotary,
      window: options.window,
      scale: options.scale ?? 1 / Math.sqrt(sizes.headSize),
      softCap: options.softCap,
      sinks: options.sinks ? file.tensor(`blk.${layer}.attn_sinks.weight`) : undefined,
    },
    feedForward: {
      ...readFeedForward(file, layer, options),
      before: norm(options.feedForwardNorm ?? "ffn_norm", "before"),
      after: norm("post_ffw_norm", "after"),
    },
    residualScale,
  };
}

function readLinear(file: SpecReader, name: string, more: Omit<LinearSpec, "tensor" | "bias"> = {}): LinearSpec {
  return { tensor: file.tensor(`${name}.weight`), bias: file.optionalTensor(`${name}.bias`), ...more };
}

type Projections = Pick<AttentionSpec, "heads" | "kvHeads" | "headSize" | "query" | "key" | "value" | "output">;

/** Attention's weights: Q, K and V separately, or one after the other in one tensor. */
function readProjections(file: SpecReader, layer: number, { heads, kvHeads, headSize }: Sizes, pairs: LinearSpec["pairs"]): Projections {
  const at = (name: string) => `blk.${layer}.${name}`;
  const [q, kv] = [heads * headSize, kvHeads * headSize];
  const shared = file.optionalTensor(`${at("attn_qkv")}.weight`) !== undefined;
  const part = (name: string, from: number, length: number) =>
    shared ? readLinear(file, at("attn_qkv"), { rows: [from, from + length] }) : readLinear(file, at(name));
  return {
    heads,
    kvHeads,
    headSize,
    query: { ...part("attn_q", 0, q), pairs },
    key: { ...part("attn_k", q, kv), pairs },
    value: part("attn_v", q + kv, kv),
    output: readLinear(file, at("attn_output")),
  };
}

function readFeedForward(file: SpecReader, layer: number, options: LayerOptions): FeedForwardSpec {
  const { activation = "silu", fusedGate = false } = options;
  const at = (name: string) => `blk.${layer}.${name}`;
  const experts = file.number("expert_count", 0);
  const used = file.number("expert_used_count", 0);
  if (experts > 0) return { kind: "experts", ...readExperts(file, layer, file.count("expert_count"), used), activation };
  const width = file.count("feed_forward_length");
  const weight = (name: string, rows?: LinearSpec["rows"]) => readLinear(file, at(name), { rows });
  const [gate, up] = fusedGate
    ? [weight("ffn_up", [0, width]), weight("ffn_up", [width, 2 * width])]
    : [weight("ffn_gate"), weight("ffn_up")];
  return { kind: "dense", width, activation, gate, up, down: weight("ffn_down") };
}

function readExperts(file: SpecReader, layer: number, experts: number, used: number) {
  if (!Number.isInteger(used) || used < 1 || used > experts)
    throw file.wrong("expert_used_count", `is ${used}; it must be a whole number up to ${experts}, the number of experts`);
  if (![0, 1].includes(file.number("expert_weights_scale", 1)))
    throw file.wrong("expert_weights_scale", "is not 1, which is not supported");
  // A file may give the length for all experts that a token uses, for one, or both.
  const dense = file.optionalNumber("feed_forward_length");
  const width = file.count("expert_feed_forward_length", dense);
  const weight = (name: string) => readLinear(file, `blk.${layer}.${name}`);
  return {
    experts,
    used,
    width,
    router: weight("ffn_gate_inp"),
    gate: weight("ffn_gate_exps"),
    up: weight("ffn_up_exps"),
    down: weight("ffn_down_exps"),
  };
}

/**
 * Each layer's window: in every run of `every` layers all but the last have one, or those that the file lists.
 * @param fallback the window if the file does not give it; without a fallback, such a model has none
 */
export function readWindows(
  file: SpecReader,
  layers: number,
  { every, fallback = 0 }: { readonly every: number; readonly fallback?: number },
): (number | undefined)[] {
  const window = file.number("attention.sliding_window", fallback);
  const listed = file.optionalList("attention.sliding_window_pattern");
  const period = listed?.length === 1 ? Number(listed[0]) : every;
  const has = (layer: number) => (listed && listed.length > 1 ? Boolean(listed[layer]) : period === 0 || layer % period < period - 1);
  return Array.from({ length: layers }, (_, layer) => (window > 0 && has(layer) ? window : undefined));
}

/** One value for each layer. */
export function eachLayer<T>({ layers }: Sizes, make: (layer: number) => T): T[] {
  return Array.from({ length: layers }, (_, layer) => make(layer));
}
