import type { KvForm } from "../kv/form.js";
import type { RotarySpec } from "../kv/rotary.js";

/**
 * What a model computes, whatever its family: plain data that a graph writer reads. Tensors are named as in the model's file.
 * The residual stream x goes through each layer as
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
  /** What was chosen when the model was opened and its file does not determine; part of its identity. */
  readonly variant: string;
  readonly vocabulary: number;
  readonly hidden: number;
  readonly normEpsilon: number;
  readonly embedding: { readonly tensor: string; readonly scale: number };
  /** Kinds of rotary embedding, to which layers refer by index. */
  readonly rotaries: readonly RotarySpec[];
  readonly layers: readonly LayerSpec[];
  /** RMS norm of the last layer's output. */
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

/** Scores are `softCap(scale * q . k)` wherever a token sees another. */
export type AttentionSpec = Norms & {
  readonly heads: number;
  /** Each KV head is shared by `heads / kvHeads` successive heads. */
  readonly kvHeads: number;
  readonly headSize: number;
  /** A token sees those less than this many positions before it; all if omitted. */
  readonly window?: number | undefined;
  /** Index of a kind of rotary embedding; none if omitted. */
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
  /** `[heads]`: an additional score per head, whose share of the attention goes nowhere. */
  readonly sinks?: string | undefined;
};

/** Over each head separately, weight `[head_size]`, or over all of a token's heads at once, weight `[heads * head_size]`. */
export type HeadNorm = { readonly tensor: string; readonly over: "head" | "row" };

export type FeedForwardSpec = DenseSpec | ExpertsSpec;

/** `down(activate(gate(x), up(x)))`; gate and up have `width` rows. */
type Gated = Norms & {
  readonly width: number;
  readonly activation: Activation;
  readonly gate: LinearSpec;
  readonly up: LinearSpec;
  readonly down: LinearSpec;
};

export type DenseSpec = Gated & { readonly kind: "dense" };

/**
 * Several gated feed-forwards, of which each token uses the `used` that the router rates highest, weighted by the softmax of
 * these ratings. The experts' tensors are `[experts, rows, columns]`, their biases `[experts, rows]`.
 */
export type ExpertsSpec = Gated & {
  readonly kind: "experts";
  readonly experts: number;
  readonly used: number;
  readonly router: LinearSpec;
};

/**
 * How gate and up are combined: `activation(gate) * up`. `gelu` is the tanh approximation. `clamped` is gpt-oss's: g at most
 * 7, u from -7 to 7, and then g * sigmoid(1.702 g) * (u + 1).
 */
export type Activation = "silu" | "gelu" | "clamped";

/** A linear layer's weight `[rows, columns]`, and its bias `[rows]`. */
export type LinearSpec = {
  readonly tensor: string;
  /** The rows `[from, to)` of a tensor that several layers share, and of its bias; all if omitted. */
  readonly rows?: readonly [from: number, to: number] | undefined;
  /** For rows that the rotary embedding rotates: which dimensions of a head rotate together, i and i + half, or 2i and 2i + 1. */
  readonly pairs?: "halves" | "interleaved" | undefined;
  readonly bias?: string | undefined;
};

/** Layers of one kind share a mask: the same window, and the same number of queries for each KV head. */
export type MaskKind = { readonly window: number | undefined; readonly group: number };

export function maskKindOf({ window, heads, kvHeads }: AttentionSpec): MaskKind {
  return { window, group: heads / kvHeads };
}

/** The mask kinds of a model, and the index of each layer's kind. */
export function maskKinds(layers: readonly LayerSpec[]): { readonly kinds: readonly MaskKind[]; readonly ofLayer: readonly number[] } {
  const kinds: MaskKind[] = [];
  const ofLayer = layers.map(({ attention }) => {
    const own = maskKindOf(attention);
    const known = kinds.findIndex(({ window, group }) => window === own.window && group === own.group);
    return known >= 0 ? known : kinds.push(own) - 1;
  });
  return { kinds, ofLayer };
}

/** What a model's layers store of each token. */
export function kvFormOf({ layers }: ModelSpec): KvForm {
  return { layers: layers.map(({ attention: { kvHeads, headSize, rotary } }) => ({ kind: "kv", heads: kvHeads, headSize, rotary })) };
}

/** Share of a model's depth above which its attention shows what an answer depends on: docs/linking.md has other values. */
const WATCHED_FROM = 0.5;

/**
 * Layers whose attention is watched to find what a question attends to: those in the upper half that see the whole prompt, or
 * the whole upper half if every layer has a window.
 */
export function watchedLayers(layers: readonly LayerSpec[]): number[] {
  const upper = layers.map((_, i) => i).filter((i) => i >= WATCHED_FROM * layers.length);
  const seeingAll = upper.filter((i) => layers[i]!.attention.window === undefined);
  return seeingAll.length > 0 ? seeingAll : upper;
}
