import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { KvspliceError } from "../plan/index.js";

export type SamplingOptions = {
  /** Divides the logits before a token is drawn; 0 (default) takes the likeliest token. */
  readonly temperature?: number;
  /** Draws from the likeliest tokens whose probabilities add up to this (nucleus sampling, Holtzman et al. 2020); 1 by default. */
  readonly topP?: number;
  /** Draws from so many likeliest tokens at most; from all by default. */
  readonly topK?: number;
  /** Equal seeds draw equal answers; a random one when left out. */
  readonly seed?: number;
};

/** Chooses one token of logits `[vocabulary]`. */
export type Sampler = (logits: Float32Array) => number;

/** @throws KvspliceError `bad_argument` for a temperature below 0 or a topP outside (0, 1] */
export function createSampler({ temperature = 0, topP = 1, topK = Infinity, seed = Math.floor(Math.random() * 2 ** 31) }: SamplingOptions): Sampler {
  if (!(temperature >= 0)) throw new KvspliceError("bad_argument", `The temperature is ${temperature}; choose one from 0.`);
  if (!(topP > 0 && topP <= 1)) throw new KvspliceError("bad_argument", `top-p is ${topP}; choose one above 0, up to 1.`);
  if (!(topK >= 1)) throw new KvspliceError("bad_argument", `top-k is ${topK}; choose a number from 1.`);
  if (temperature === 0) return argmax;
  const random = xoroshiro128plus(seed);
  return (logits) => {
    const probabilities = softmax(logits, temperature);
    const ids = nucleus(probabilities, topP, topK);
    let left = uniformFloat64(random) * sumOf(probabilities, ids);
    for (const id of ids) {
      left -= probabilities[id]!;
      if (left < 0) return id;
    }
    return ids[0]!;
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

// Loops over the whole vocabulary are plain ones: callbacks take longer than a pass.

function softmax(logits: Float32Array, temperature: number): Float64Array {
  const greatest = logits[argmax(logits)]!;
  const shares = new Float64Array(logits.length);
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += shares[id] = Math.exp((logits[id]! - greatest) / temperature);
  for (let id = 0; id < shares.length; id++) shares[id]! /= sum;
  return shares;
}

/**
 * Of the `topK` likeliest tokens the fewest whose probabilities reach `topP` of theirs, the likeliest first; all that have
 * one, in their own order, where neither leaves any out.
 */
function nucleus(probabilities: Float64Array, topP: number, topK: number): Uint32Array {
  // A token below this cannot be among them: all such together do not reach what is left of 1.
  const floor = (1 - topP) / probabilities.length;
  const candidates = new Uint32Array(probabilities.length);
  let count = 0;
  for (let id = 0; id < probabilities.length; id++) if (probabilities[id]! > floor) candidates[count++] = id;
  if (topP === 1 && topK >= count) return candidates.subarray(0, count);
  const sorted = candidates.subarray(0, count).sort((a, b) => probabilities[b]! - probabilities[a]!).subarray(0, topK);
  const enough = topP * (topK >= count ? 1 : sumOf(probabilities, sorted));
  let sum = 0;
  const end = sorted.findIndex((id) => (sum += probabilities[id]!) >= enough);
  return end < 0 ? sorted : sorted.subarray(0, end + 1);
}

function sumOf(probabilities: Float64Array, ids: Uint32Array): number {
  let sum = 0;
  for (const id of ids) sum += probabilities[id]!;
  return sum;
}
