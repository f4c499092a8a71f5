import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { KvspliceError } from "./error.js";

export type SamplingOptions = {
  /** Divides the logits before a token is drawn; 0 (default) takes the likeliest token. */
  readonly temperature?: number;
  /** Draws from the likeliest tokens whose probabilities add up to this (nucleus sampling, Holtzman et al. 2020); 1 by default. */
  readonly topP?: number;
  /** Equal seeds draw equal answers; a random one when left out. */
  readonly seed?: number;
};

/** Chooses one token of logits `[vocabulary]`. */
export type Sampler = (logits: Float32Array) => number;

/** @throws KvspliceError `bad_argument` for a temperature below 0 or a topP outside (0, 1] */
export function createSampler({ temperature = 0, topP = 1, seed = Math.floor(Math.random() * 2 ** 31) }: SamplingOptions): Sampler {
  if (!(temperature >= 0)) throw new KvspliceError("bad_argument", `The temperature is ${temperature}; choose one from 0.`);
  if (!(topP > 0 && topP <= 1)) throw new KvspliceError("bad_argument", `top-p is ${topP}; choose one above 0, up to 1.`);
  if (temperature === 0) return argmax;
  const random = xoroshiro128plus(seed);
  return (logits) => {
    const nucleus = likeliest(softmax(logits, temperature), topP);
    let left = uniformFloat64(random) * nucleus.reduce((sum, { probability }) => sum + probability, 0);
    for (const { id, probability } of nucleus) {
      left -= probability;
      if (left < 0) return id;
    }
    return nucleus[0]!.id;
  };
}

export type Likelihood = { readonly id: number; readonly logprob: number };

/** Natural logarithms of the probabilities that the model gives: of one token, and of the `top` likeliest. */
export function logprobsOf(logits: Float32Array, id: number, top: number): { readonly logprob: number; readonly top: readonly Likelihood[] } {
  const greatest = logits[argmax(logits)]!;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - greatest);
  const norm = greatest + Math.log(sum);
  const best: Likelihood[] = [];
  for (let other = 0; other < logits.length && top > 0; other++) {
    const logprob = logits[other]! - norm;
    if (best.length === top && logprob <= best.at(-1)!.logprob) continue;
    best.splice(best.findLastIndex((each) => each.logprob >= logprob) + 1, 0, { id: other, logprob });
    if (best.length > top) best.pop();
  }
  return { logprob: logits[id]! - norm, top: best };
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function softmax(logits: Float32Array, temperature: number): Float64Array {
  const greatest = logits[argmax(logits)]!;
  const shares = Float64Array.from(logits, (logit) => Math.exp((logit - greatest) / temperature));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => share / sum);
}

/** The fewest tokens whose probabilities reach `topP`, the likeliest first. */
function likeliest(probabilities: Float64Array, topP: number): { readonly id: number; readonly probability: number }[] {
  // A token below this cannot be among them: all such together do not reach what is left of 1.
  const floor = (1 - topP) / probabilities.length;
  const candidates: { id: number; probability: number }[] = [];
  probabilities.forEach((probability, id) => {
    if (probability > floor) candidates.push({ id, probability });
  });
  if (topP === 1) return candidates;
  candidates.sort((a, b) => b.probability - a.probability);
  let sum = 0;
  const end = candidates.findIndex(({ probability }) => (sum += probability) >= topP);
  return end < 0 ? candidates : candidates.slice(0, end + 1);
}
