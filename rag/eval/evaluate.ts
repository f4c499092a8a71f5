import { isBlockPiece, KvspliceError, linkText, NO_LINK, withoutCache, type BlockStore, type Link, type Model, type Plan } from "../../engine/index.js";
import { layOut, renderDocument } from "../prompt.js";
import type { EvalQuestion, Passage } from "./questions.js";
import { agreementOf, type Agreement } from "./agreement.js";
import { scoreAnswer, type Score } from "./score.js";

/**
 * How a prompt is read. `full`: in one prefill, every token seeing all before it. `spliced`: documents encoded apart,
 * re-encoded at their positions. `unrotated`: documents encoded apart and left at the positions that they were encoded
 * at, which shows what re-encoding is worth.
 */
export type EvalMode = "full" | "spliced" | "unrotated";

export const EVAL_MODES: readonly EvalMode[] = ["full", "spliced", "unrotated"];

export type EvalOptions = {
  /** All by default. */
  readonly modes?: readonly EvalMode[];
  /** Ways of linking in mode `spliced`; none by default. */
  readonly links?: readonly Link[] | undefined;
  /** Counts of link tokens after each document; by default 0, 1 and 4 as far as the model has them. */
  readonly linkTokens?: readonly number[] | undefined;
  /** Holds the blocks of one question at a time: they are deleted after it. */
  readonly store: BlockStore;
  readonly signal?: AbortSignal;
  /** Called after each question with the results so far. */
  readonly onProgress?: (questions: number, results: readonly EvalResult[]) => void;
};

/** What one mode with one count of link tokens came to. Scores are means, in percent. */
export type EvalResult = {
  readonly mode: EvalMode;
  /** How documents were linked, as `linkText` writes it. */
  readonly link: string;
  readonly link_tokens: number;
  readonly questions: number;
  readonly exact_match: number;
  readonly contains: number;
  readonly f1: number;
  /** Of the first token's distribution from that of mode `full`, mean, in nats; only where `full` was run as well. */
  readonly kl?: number;
  /** How often the first token is that of mode `full`, in percent. */
  readonly same_first_token?: number;
  /** Of the documents' tokens, those that were computed for the question, in percent. */
  readonly recomputed: number;
  /** Mean time to the first token, the documents' blocks being in memory. */
  readonly first_token_ms: number;
  /** Mean time of one answer, its documents' blocks being in memory. */
  readonly seconds_per_question: number;
};

/** As models/NOTICE.md measured the model. */
const MAX_ANSWER_TOKENS = 24;

/**
 * Answers each question in each mode and with each count of link tokens, greedily, over the same documents.
 * @throws KvspliceError `cancelled`, `too_long`, `bad_argument` for link tokens that the model does not have
 */
export async function evaluate(model: Model, questions: readonly EvalQuestion[], options: EvalOptions): Promise<EvalResult[]> {
  const { modes = EVAL_MODES, links = [NO_LINK], linkTokens = usualLinkTokens(model), store, signal, onProgress } = options;
  const inFullFirst = [...modes].sort((a, b) => Number(b === "full") - Number(a === "full"));
  const tallies = inFullFirst.flatMap((mode) => linkTokens.flatMap((link_tokens) => (mode === "spliced" ? links : [NO_LINK]).map((link) => newTally(mode, link, link_tokens))));
  const results = () => tallies.map(resultOf);
  for (const [index, { question, answers, documents }] of questions.entries()) {
    const tokens = documents.map((document) => documentTokens(model, document));
    const documentLength = tokens.reduce((sum, own) => sum + own.length, 0);
    const full = new Map<number, Float32Array>();
    const blocks = await encode(model, store, layOut(model, question, tokens, 0), signal);
    for (const tally of tallies) {
      if (signal?.aborted) throw new KvspliceError("cancelled", "The evaluation was cancelled.", { cause: signal.reason });
      const plan = planOf(tally.mode, layOut(model, question, tokens, tally.link_tokens));
      const start = performance.now();
      let first: Float32Array | undefined;
      const { link } = tally;
      const generation = model.generate(plan, { store, link, stop: model.card.stop ?? [], maxNewTokens: MAX_ANSWER_TOKENS, temperature: 0, onLogits: (logits) => (first ??= logits), ...(signal && { signal }) });
      const answer = await generation.text;
      const { recomputed_tokens, first_token_ms } = await generation.stats;
      tally.seconds += (performance.now() - start) / 1000;
      tally.first_ms += first_token_ms;
      tally.recomputed += tally.mode === "full" ? 1 : recomputed_tokens / documentLength;
      tally.scores.push(scoreAnswer(answer, answers));
      if (tally.mode === "full") full.set(tally.link_tokens, first!);
      const reference = full.get(tally.link_tokens);
      if (reference) tally.agreements.push(agreementOf(reference, first!));
    }
    await store.delete(blocks);
    onProgress?.(index + 1, results());
  }
  return results();
}

function usualLinkTokens({ card }: Model): number[] {
  return [0, 1, 4].filter((count) => count <= card.linkTokens.tokens.length);
}

/** A document longer than those of the training is cut, as it was there. */
function documentTokens({ tokenizer, card }: Model, { title, text }: Passage): number[] {
  return tokenizer.encode(renderDocument(card, title, text)).slice(0, card.maxDocumentTokens);
}

/** Puts the plan's blocks into the store; gives their keys. */
async function encode(model: Model, store: BlockStore, plan: Plan, signal: AbortSignal | undefined): Promise<string[]> {
  const sources = new Map(plan.pieces.filter(isBlockPiece).map(({ block }) => [model.keyOf(block), block]));
  await Promise.all(Array.from(sources, async ([key, source]) => store.put(key, await model.encode(source, signal && { signal }))));
  return [...sources.keys()];
}

function planOf(mode: EvalMode, plan: Plan): Plan {
  switch (mode) {
    case "full":
      return withoutCache(plan);
    case "spliced":
      return plan;
    case "unrotated":
      return { pieces: plan.pieces.map((piece) => (isBlockPiece(piece) ? { ...piece, at: 0 } : piece)) };
  }
}

type Tally = {
  readonly mode: EvalMode;
  readonly link: Link;
  readonly link_tokens: number;
  readonly scores: Score[];
  /** From mode `full`, where it was run for the question before. */
  readonly agreements: Agreement[];
  seconds: number;
  first_ms: number;
  recomputed: number;
};

function newTally(mode: EvalMode, link: Link, link_tokens: number): Tally {
  return { mode, link, link_tokens, scores: [], agreements: [], seconds: 0, first_ms: 0, recomputed: 0 };
}

function resultOf({ mode, link, link_tokens, scores, agreements, seconds, first_ms, recomputed }: Tally): EvalResult {
  const mean = (of: keyof Score) => (100 * scores.reduce((sum, score) => sum + score[of], 0)) / scores.length;
  const agreed = (of: (agreement: Agreement) => number) => agreements.reduce((sum, agreement) => sum + of(agreement), 0) / agreements.length;
  return {
    mode,
    link: linkText(link),
    link_tokens,
    questions: scores.length,
    ...(agreements.length > 0 && { kl: agreed(({ kl }) => kl), same_first_token: 100 * agreed(({ same }) => (same ? 1 : 0)) }),
    recomputed: (100 * recomputed) / scores.length,
    first_token_ms: first_ms / scores.length,
    exact_match: mean("exact"),
    contains: mean("contains"),
    f1: mean("f1"),
    seconds_per_question: seconds / scores.length,
  };
}
