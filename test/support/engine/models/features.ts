import { rotaryFrequencies } from "../../../../engine/kv/rotary.js";
import type { AttentionSpec, FeedForwardSpec, LayerSpec, LinearSpec, ModelSpec } from "../../../../engine/model/spec.js";

/** A specification with one of its features removed, and the feature's name. */
export type Without = { readonly feature: string; readonly spec: ModelSpec };

/** Each feature that a model's layers have, switched off in all of them. */
export function featuresOff(spec: ModelSpec): Without[] {
  const { embedding, head } = spec;
  const changes: [feature: string, change: (spec: ModelSpec) => ModelSpec][] = [
    ["the embedding's scale", (spec) => ({ ...spec, embedding: { ...embedding, scale: 1 } })],
    ["the logits' scale", (spec) => ({ ...spec, head: { ...head, scale: 1 } })],
    ["the logits' soft-cap", (spec) => ({ ...spec, head: { ...head, softCap: undefined } })],
    ["the head's bias", (spec) => ({ ...spec, head: { ...head, weight: { ...head.weight, bias: undefined } } })],
    ["the residual scale", layers((layer) => ({ ...layer, residualScale: 1 }))],
    ["norms before", (spec) => layers(bothBranches((branch) => ({ ...branch, before: undefined })))(spec)],
    ["norms after", layers(bothBranches((branch) => ({ ...branch, after: undefined })))],
    ["windows", attention((own) => ({ ...own, window: undefined }))],
    ["the rotary embedding", attention((own) => ({ ...own, rotary: undefined }))],
    [
      "layers without rotary embedding",
      (spec) => (spec.rotaries.length > 0 ? attention((own) => ({ ...own, rotary: own.rotary ?? 0 }))(spec) : spec),
    ],
    ["a second kind of rotary embedding", attention((own) => ({ ...own, rotary: own.rotary && 0 }))],
    ["specific frequencies", rotaries((own) => ({ ...own, frequencies: rotaryFrequencies(own.dimensions, 10_000) }))],
    ["the rotary embedding's magnitude", rotaries((own) => ({ ...own, magnitude: 1 }))],
    ["rotation of only part of each head", wholeHeadsTurned],
    ["the order of pairs", attention((own) => ({ ...own, query: flipped(own.query), key: flipped(own.key) }))],
    ["norms of queries", attention((own) => ({ ...own, queryNorm: undefined }))],
    ["norms of keys", attention((own) => ({ ...own, keyNorm: undefined }))],
    ["the scores' scale", attention((own) => ({ ...own, scale: 1 / Math.sqrt(own.headSize) }))],
    ["the scores' soft-cap", attention((own) => ({ ...own, softCap: undefined }))],
    ["sinks", attention((own) => ({ ...own, sinks: undefined }))],
    ["the feed-forward's activation", feedForward((own) => ({ ...own, activation: own.activation === "silu" ? "gelu" : "silu" }))],
    ["experts besides the highest rated", feedForward((own) => (own.kind === "experts" ? { ...own, used: 1 } : own))],
    ["the bias of the router", feedForward((own) => (own.kind === "experts" ? { ...own, router: unbiased(own.router) } : own))],
    ...(["query", "key", "value", "output"] as const).map((name): (typeof changes)[number] => [
      `the bias of ${name}`,
      attention((own) => ({ ...own, [name]: unbiased(own[name]) })),
    ]),
    ...(["gate", "up", "down"] as const).map((name): (typeof changes)[number] => [
      `the bias of ${name}`,
      feedForward((own) => ({ ...own, [name]: unbiased(own[name]) })),
    ]),
  ];
  const before = JSON.stringify(spec);
  return changes.map(([feature, change]) => ({ feature, spec: change(spec) })).filter(({ spec }) => JSON.stringify(spec) !== before);
}

type Change = (spec: ModelSpec) => ModelSpec;

function layers(change: (layer: LayerSpec) => LayerSpec): Change {
  return (spec) => ({ ...spec, layers: spec.layers.map(change) });
}

function attention(change: (attention: AttentionSpec) => AttentionSpec): Change {
  return layers((layer) => ({ ...layer, attention: change(layer.attention) }));
}

function feedForward(change: (feedForward: FeedForwardSpec) => FeedForwardSpec): Change {
  return layers((layer) => ({ ...layer, feedForward: change(layer.feedForward) }));
}

function bothBranches(change: <T extends AttentionSpec | FeedForwardSpec>(branch: T) => T): (layer: LayerSpec) => LayerSpec {
  return (layer) => ({ ...layer, attention: change(layer.attention), feedForward: change(layer.feedForward) });
}

function rotaries(change: (rotary: ModelSpec["rotaries"][number]) => ModelSpec["rotaries"][number]): Change {
  return (spec) => ({ ...spec, rotaries: spec.rotaries.map(change) });
}

function wholeHeadsTurned(spec: ModelSpec): ModelSpec {
  const { headSize } = spec.layers[0]!.attention;
  return rotaries((own) =>
    own.dimensions < headSize ? { ...own, dimensions: headSize, frequencies: rotaryFrequencies(headSize, 10_000) } : own,
  )(spec);
}

function flipped(weight: LinearSpec): LinearSpec {
  return { ...weight, pairs: weight.pairs === "halves" ? "interleaved" : "halves" };
}

function unbiased(weight: LinearSpec): LinearSpec {
  return { ...weight, bias: undefined };
}
