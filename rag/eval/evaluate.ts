import { isBlockPiece, KvspliceError, withoutCache, type BlockStore, type Model, type Plan } from "../../engine/index.js";
import { layOut, renderDocument } from "../prompt.js";
import type { EvalQuestion, Passage } from "./questions.js";
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
  readonly link_tokens: number;
  readonly questions: number;
  readonly exact_match: number;
  readonly contains: number;
  readonly f1: number;
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
  const { modes = EVAL_MODES, linkTokens = usualLinkTokens(model), store, signal, onProgress } = options;
  const tallies = modes.flatMap((mode) => linkTokens.map((link_tokens) => ({ mode, link_tokens, scores: [] as Score[], seconds: 0 })));
  const results = () => tallies.map(resultOf);
  for (const [index, { question, answers, documents }] of questions.entries()) {
    const tokens = documents.map((document) => documentTokens(model, document));
    const blocks = await encode(model, store, layOut(model, question, tokens, 0), signal);
    for (const tally of tallies) {
      if (signal?.aborted) throw new KvspliceError("cancelled", "The evaluation was cancelled.", { cause: signal.reason });
      const plan = planOf(tally.mode, layOut(model, question, tokens, tally.link_tokens));
      const start = performance.now();
      let answer = "";
      for await (const { text } of model.generate(plan, { store, maxNewTokens: MAX_ANSWER_TOKENS, ...(signal && { signal }) })) answer += text;
      tally.seconds += (performance.now() - start) / 1000;
      tally.scores.push(scoreAnswer(answer, answers));
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

type Tally = { readonly mode: EvalMode; readonly link_tokens: number; readonly scores: readonly Score[]; readonly seconds: number };

function resultOf({ mode, link_tokens, scores, seconds }: Tally): EvalResult {
  const mean = (of: keyof Score) => (100 * scores.reduce((sum, score) => sum + score[of], 0)) / scores.length;
  return {
    mode,
    link_tokens,
    questions: scores.length,
    exact_match: mean("exact"),
    contains: mean("contains"),
    f1: mean("f1"),
    seconds_per_question: seconds / scores.length,
  };
}
