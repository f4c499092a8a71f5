import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { KvspliceError } from "../plan/index.js";
import { Penalties, type PenaltyOptions } from "./penalties.js";

/** How an answer's tokens are chosen: penalties, temperature, then min-p, top-k and top-p, each applied to what the previous ones leave. */
export type SamplingOptions = PenaltyOptions & {
  /** Divides the logits before a token is drawn; 0 (default) takes the likeliest token. */
  readonly temperature?: number;
  /** Draws from the likeliest tokens whose probabilities add up to this (nucleus sampling, Holtzman et al. 2020); 1 by default. */
  readonly topP?: number;
  /** Draws from at most this many of the likeliest tokens; from all by default. */
  readonly topK?: number;
  /** Draws from tokens at least this fraction as likely as the likeliest (min-p, Nguyen et al. 2024); 0 by default. */
  readonly minP?: number;
  /** Equal seeds draw equal answers; a random seed if omitted. */
  readonly seed?: number;
};

/** Chooses an answer's next token from logits `[vocabulary]`. */
export type Sampler = (logits: Float32Array) => number;

/**
 * @param prompt the tokens before the answer, which the repetition penalty counts
 * @throws KvspliceError `bad_argument` for a temperature below 0, a topP outside (0, 1], a minP outside [0, 1], and the like
 */
export function createSampler(options: SamplingOptions, prompt: readonly number[] = []): Sampler {
  const penalties = new Penalties(options, prompt);
  const draw = createDraw(options);
  return (logits) => {
    const id = draw(penalties.apply(logits));
    penalties.say(id);
    return id;
  };
}

function createDraw({
  temperature = 0,
  topP = 1,
  topK = Infinity,
  minP = 0,
  seed = Math.floor(Math.random() * 2 ** 31),
}: SamplingOptions): Sampler {
  if (!(temperature >= 0)) throw new KvspliceError("bad_argument", `The temperature is ${temperature}; choose a number of at least 0.`);
  if (!(topP > 0 && topP <= 1)) throw new KvspliceError("bad_argument", `top-p is ${topP}; choose a number above 0, up to 1.`);
  if (!(topK >= 1)) throw new KvspliceError("bad_argument", `top-k is ${topK}; choose a number of at least 1.`);
  if (!(minP >= 0 && minP <= 1)) throw new KvspliceError("bad_argument", `min-p is ${minP}; choose a number from 0 to 1.`);
  if (temperature === 0) return argmax;
  const random = xoroshiro128plus(seed);
  return (logits) => {
    const probabilities = softmax(logits, temperature);
    const ids = nucleus(probabilities, { topP, topK, minP });
    let left = uniformFloat64(random) * sumOf(probabilities, ids);
    for (const id of ids) {
      left -= probabilities[id]!;
      if (left < 0) return id;
    }
    return ids[0]!;
  };
}

export type Likelihood = { readonly id: number; readonly logprob: number };

/** Natural logarithms of the probabilities that the model gives to one token and to the `top` likeliest. */
export function logprobsOf(
  logits: Float32Array,
  id: number,
  top: number,
): { readonly logprob: number; readonly top: readonly Likelihood[] } {
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

// Loops over the whole vocabulary are plain loops: callbacks would take longer than a pass.

function softmax(logits: Float32Array, temperature: number): Float64Array {
  const greatest = logits[argmax(logits)]!;
  const shares = new Float64Array(logits.length);
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += shares[id] = Math.exp((logits[id]! - greatest) / temperature);
  for (let id = 0; id < shares.length; id++) shares[id]! /= sum;
  return shares;
}

/**
 * Of the tokens that are likely enough by `minP`, the `topK` likeliest, and of these the fewest whose probabilities reach
 * `topP` of their total, likeliest first. If no limit applies, all tokens with a probability, in their own order.
 */
function nucleus(
  probabilities: Float64Array,
  { topP, topK, minP }: Required<Pick<SamplingOptions, "topP" | "topK" | "minP">>,
): Uint32Array {
  // Without min-p, a token below this cannot be among them: all such tokens together do not reach the rest of 1.
  const floor = minP > 0 ? 0 : (1 - topP) / probabilities.length;
  const least = minP > 0 ? minP * greatestOf(probabilities) : 0;
  const candidates = new Uint32Array(probabilities.length);
  let count = 0;
  for (let id = 0; id < probabilities.length; id++) if (probabilities[id]! > floor && probabilities[id]! >= least) candidates[count++] = id;
  if (topP === 1 && topK >= count) return candidates.subarray(0, count);
  const sorted = candidates
    .subarray(0, count)
    .sort((a, b) => probabilities[b]! - probabilities[a]!)
    .subarray(0, topK);
  const enough = topP * (minP === 0 && topK >= count ? 1 : sumOf(probabilities, sorted));
  let sum = 0;
  const end = sorted.findIndex((id) => (sum += probabilities[id]!) >= enough);
  return end < 0 ? sorted : sorted.subarray(0, end + 1);
}

function greatestOf(probabilities: Float64Array): number {
  let greatest = 0;
  for (let id = 0; id < probabilities.length; id++) if (probabilities[id]! > greatest) greatest = probabilities[id]!;
  return greatest;
}

function sumOf(probabilities: Float64Array, ids: Uint32Array): number {
  let sum = 0;
  for (const id of ids) sum += probabilities[id]!;
  return sum;
}
