import type { GenerateOptions, Model, Plan, PromptStats } from "../../engine/index.js";
import { agreementOf } from "../eval/agreement.js";

/** An answer that others are compared with, and the logits `[vocabulary]` from which each of its tokens was drawn. */
export type Reference = { readonly answer: readonly number[]; readonly logits: readonly Float32Array[]; readonly first_token_ms: number };

/** How far a prompt's answer is from the reference, with each token given the reference's tokens before it. */
export type Distance = {
  /**
   * The sum over the reference's tokens of the KL divergence, in nats, capped at 1 so that no single question decides.
   */
  readonly divergence: number;
  readonly sameFirst: boolean;
  /** Whether every token of the reference is also the likeliest here. */
  readonly sameAnswer: boolean;
};

const MOST_DIVERGENCE = 1;
/** Tokens of the reference's answer that are compared. */
const ANSWER_TOKENS = 24;

/** Answers the plan greedily, as it is. */
export async function referenceOf(model: Model, plan: Plan, how: GenerateOptions): Promise<Reference> {
  const answer: number[] = [];
  const logits: Float32Array[] = [];
  const generation = model.generate(plan, {
    ...how,
    maxNewTokens: ANSWER_TOKENS,
    temperature: 0,
    stop: model.card.stop ?? [],
    onLogits: (own) => logits.push(own.slice()),
  });
  for await (const { id } of generation) if (id >= 0) answer.push(id);
  const { first_token_ms } = await generation.stats;
  // If the model ended its answer, it also chose the end token.
  if (logits.length > answer.length) answer.push(likeliest(logits[answer.length]!));
  return { answer, logits: logits.slice(0, answer.length), first_token_ms };
}

/** How far a plan's answer is from the reference, and what the plan cost up to the first token. */
export async function distanceFrom(
  { answer, logits }: Reference,
  model: Model,
  plan: Plan,
  how: GenerateOptions,
): Promise<{ readonly distance: Distance; readonly stats: PromptStats }> {
  const { logits: own, stats } = await model.score(plan, answer, how);
  const agreements = logits.map((reference, t) => agreementOf(reference, own[t]!));
  const distance = {
    divergence: Math.min(
      MOST_DIVERGENCE,
      agreements.reduce((sum, { kl }) => sum + kl, 0),
    ),
    sameFirst: agreements[0]!.same,
    sameAnswer: agreements.every(({ same }) => same),
  };
  return { distance, stats };
}

function likeliest(logits: Float32Array): number {
  return logits.reduce((best, value, i) => (value > logits[best]! ? i : best), 0);
}
