/**
 * Kullback-Leibler divergence KL(P || Q) of two next-token distributions, in nats, from their logits `[vocabulary]`:
 * how much is lost when Q replaces P.
 */
export function divergence(p: Float32Array, q: Float32Array): number {
  const [logP, logQ] = [logSoftmax(p), logSoftmax(q)];
  let sum = 0;
  for (let i = 0; i < logP.length; i++) sum += Math.exp(logP[i]!) * (logP[i]! - logQ[i]!);
  return Math.max(0, sum);
}

function logSoftmax(logits: Float32Array): Float64Array {
  let max = -Infinity;
  for (const logit of logits) max = Math.max(max, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - max);
  const norm = max + Math.log(sum);
  return Float64Array.from(logits, (logit) => logit - norm);
}
