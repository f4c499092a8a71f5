/** How far a token's distribution is from a reference's. */
export type Agreement = {
  /** Kullback-Leibler divergence of the reference from the other, in nats. */
  readonly kl: number;
  /** Whether the likeliest token is the same. */
  readonly same: boolean;
};

/** @param reference logits `[vocabulary]`, like `other` */
export function agreementOf(reference: Float32Array, other: Float32Array): Agreement {
  const [a, b] = [normalised(reference), normalised(other)];
  let kl = 0;
  for (let i = 0; i < reference.length; i++) {
    const logP = reference[i]! - a.logSum;
    kl += Math.exp(logP) * (logP - (other[i]! - b.logSum));
  }
  return { kl: Math.max(0, kl), same: a.likeliest === b.likeliest };
}

/** The logarithm of the sum of exponentials, and the index of the largest logit. */
function normalised(logits: Float32Array): { readonly logSum: number; readonly likeliest: number } {
  let likeliest = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[likeliest]!) likeliest = i;
  const most = logits[likeliest]!;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return { logSum: most + Math.log(sum), likeliest };
}
