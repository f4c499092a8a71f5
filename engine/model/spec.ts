import type { KvForm } from "../kv/form.js";
import type { RotarySpec } from "../kv/rotary.js";

/**
 * What a model computes, whatever family it comes from: plain data that a graph writer reads. Tensors are named as in
 * the model's file. The residual stream x goes through each layer as
 *
 *     x = x + residualScale * after(attention(before(x)))
 *     x = x + residualScale * after(feedForward(before(x)))
 *
 * and the logits are `softCap(scale * head(norm(x)))`.
 */
export type ModelSpec = {
  readonly name: string;
  /** Positions that the model may be used with. */
  readonly contextLength: number;
  /** What was chosen when the model was opened and its file does not tell; a part of its identity. */
  readonly variant: string;
  readonly vocabulary: number;
  readonly hidden: number;
  readonly normEpsilon: number;
  readonly embedding: { readonly tensor: string; readonly scale: number };
  /** Kinds of rotary embedding, which layers name by their index. */
  readonly rotaries: readonly RotarySpec[];
  readonly layers: readonly LayerSpec[];
  /** RMS norm of the last layer's result. */
  readonly norm: string;
  readonly head: { readonly weight: LinearSpec; readonly scale: number; readonly softCap?: number | undefined };
};

export type LayerSpec = {
  readonly attention: AttentionSpec;
  readonly feedForward: FeedForwardSpec;
  readonly residualScale: number;
};

/** RMS norms `[hidden]` around attention or feed-forward. */
export type Norms = { readonly before?: string | undefined; readonly after?: string | undefined };

/** Scores are `softCap(scale * q . k)`, where a token sees another. */
export type AttentionSpec = Norms & {
  readonly heads: number;
  /** A KV head is shared by `heads / kvHeads` successive heads. */
  readonly kvHeads: number;
  readonly headSize: number;
  /** A token sees those that are less than so many positions before it; all when left out. */
  readonly window?: number | undefined;
  /** Index of a kind of rotary embedding; none when left out. */
  readonly rotary?: number | undefined;
  readonly query: LinearSpec;
  readonly key: LinearSpec;
  readonly value: LinearSpec;
  readonly output: LinearSpec;
  /** RMS norms of queries and keys before the rotary embedding. */
  readonly queryNorm?: HeadNorm | undefined;
  readonly keyNorm?: HeadNorm | undefined;
  readonly scale: number;
  /** Scores s become c * tanh(s / c). */
  readonly softCap?: number | undefined;
  /** `[heads]`: a score beside those of the tokens that a head sees, whose share of the attention goes nowhere. */
  readonly sinks?: string | undefined;
};

/** Each head by itself, weight `[head_size]`, or all of a token's heads at once, weight `[heads * head_size]`. */
export type HeadNorm = { readonly tensor: string; readonly over: "head" | "row" };

export type FeedForwardSpec = DenseSpec | ExpertsSpec;

/** `down(activate(gate(x), up(x)))`; gate and up have `width` rows. */
type Gated = Norms & { readonly width: number; readonly activation: Activation; readonly gate: LinearSpec; readonly up: LinearSpec; readonly down: LinearSpec };

export type DenseSpec = Gated & { readonly kind: "dense" };

/**
 * Of several gated feed-forwards, the `used` that the router rates highest for a token, weighed by the softmax of these
 * ratings. The experts' tensors are `[experts, rows, columns]`, their biases `[experts, rows]`.
 */
export type ExpertsSpec = Gated & { readonly kind: "experts"; readonly experts: number; readonly used: number; readonly router: LinearSpec };

/**
 * How gate and up become one: `activation(gate) * up`. `gelu` is the approximation by tanh. `clamped` is gpt-oss's: g at
 * most 7, u within 7 of 0, and then g * sigmoid(1.702 g) * (u + 1).
 */
export type Activation = "silu" | "gelu" | "clamped";

/** A linear layer's weight `[rows, columns]`, and its bias `[rows]`. */
export type LinearSpec = {
  readonly tensor: string;
  /** Those rows `[from, to)` of a tensor that several layers share, of its bias too; all when left out. */
  readonly rows?: readonly [from: number, to: number] | undefined;
  /** Of rows that the rotary embedding turns: which dimensions of a head turn together, i and i + half, or 2i and 2i + 1. */
  readonly pairs?: "halves" | "interleaved" | undefined;
  readonly bias?: string | undefined;
};

/** What layers have one mask for: the same window, and the same number of queries for each KV head. */
export type MaskKind = { readonly window: number | undefined; readonly group: number };

export function maskKindOf({ window, heads, kvHeads }: AttentionSpec): MaskKind {
  return { window, group: heads / kvHeads };
}

/** The kinds of a model, and the index of each layer's. */
export function maskKinds(layers: readonly LayerSpec[]): { readonly kinds: readonly MaskKind[]; readonly ofLayer: readonly number[] } {
  const kinds: MaskKind[] = [];
  const ofLayer = layers.map(({ attention }) => {
    const own = maskKindOf(attention);
    const known = kinds.findIndex(({ window, group }) => window === own.window && group === own.group);
    return known >= 0 ? known : kinds.push(own) - 1;
  });
  return { kinds, ofLayer };
}

/** What a model's layers keep of each token. */
export function kvFormOf({ layers }: ModelSpec): KvForm {
  return { layers: layers.map(({ attention: { kvHeads, headSize, rotary } }) => ({ kind: "kv", heads: kvHeads, headSize, rotary })) };
}

/** Share of a model's depth above which its attention tells what an answer depends on: docs/linking.md has others. */
const WATCHED_FROM = 0.5;

/**
 * Layers whose attention is watched for what a question looks at: those of the upper half that see the whole prompt, or
 * all of the upper half where every layer has a window.
 */
export function watchedLayers(layers: readonly LayerSpec[]): number[] {
  const upper = layers.map((_, i) => i).filter((i) => i >= WATCHED_FROM * layers.length);
  const seeingAll = upper.filter((i) => layers[i]!.attention.window === undefined);
  return seeingAll.length > 0 ? seeingAll : upper;
}
