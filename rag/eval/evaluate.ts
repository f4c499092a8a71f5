import { createHash } from "node:crypto";
import {
  type BlockStore,
  isBlockPiece,
  KvspliceError,
  type Link,
  linkText,
  type Model,
  NO_LINK,
  type Plan,
  storeBlock,
  withoutCache,
} from "../../engine/index.js";
import { layOut, renderDocument } from "../question-plan.js";
import { type Agreement, agreementOf } from "./agreement.js";
import { pairedDifference } from "./bootstrap.js";
import type { EvalQuestion, Passage } from "./questions.js";
import { type Score, scoreAnswer } from "./score.js";

/**
 * How a prompt is read. `full`: in one prefill, with every token seeing all before it. `spliced`: documents are encoded
 * separately and re-encoded at their positions. `unrotated`: documents are encoded separately and keep the positions
 * at which they were encoded, which shows what re-encoding is worth.
 */
export type EvalMode = "full" | "spliced" | "unrotated";

/** All modes; `evaluate` compares all of them by default. */
export const EVAL_MODES: readonly EvalMode[] = ["full", "spliced", "unrotated"];

/** What to compare: modes, ways of linking, numbers of link tokens. */
export type EvalOptions = {
  /** All by default. */
  readonly modes?: readonly EvalMode[];
  /** Ways of linking in mode `spliced`; none by default. */
  readonly links?: readonly Link[] | undefined;
  /** Numbers of link tokens after each document; by default 0, 1 and 4, as far as the model has them. */
  readonly linkTokens?: readonly number[] | undefined;
  /** Keeps blocks of passages for later questions: each passage is encoded once, as long as the store has room. */
  readonly store: BlockStore;
  /** Outcomes of an earlier run, by `key`: these questions are not asked again. None by default. */
  readonly known?: ReadonlyMap<string, QuestionOutcome> | undefined;
  /** Part of each outcome's `key`, if what computes is not the processor alone: then its results and times are others. */
  readonly device?: string | undefined;
  /** Called with a question's outcome as soon as it is known. */
  readonly onOutcome?: (outcome: QuestionOutcome) => void;
  readonly signal?: AbortSignal;
  /** Called after each question with the results so far. */
  readonly onProgress?: (questions: number, results: readonly EvalResult[]) => void;
};

/** Results of one mode with one number of link tokens. Scores are means, in percent. */
export type EvalResult = {
  readonly mode: EvalMode;
  /** How documents were linked, in the form of `linkText`. */
  readonly link: string;
  readonly link_tokens: number;
  readonly questions: number;
  readonly exact_match: number;
  readonly contains: number;
  readonly f1: number;
  /** Mean divergence of the first token's distribution from that of mode `full`, in nats; only if `full` was run too. */
  readonly kl?: number;
  /** `contains` minus that of mode `full`, with its 95 % interval by a paired bootstrap; in percentage points. */
  readonly difference?: number;
  readonly interval?: readonly [low: number, high: number];
  /** How often the first token is the same as in mode `full`, in percent. */
  readonly same_first_token?: number;
  /** Share of the documents' tokens that were computed for the question, in percent. */
  readonly recomputed: number;
  /** Mean time to the first token, with the documents' blocks in memory. */
  readonly first_token_ms: number;
  /** Mean time of one answer, with its documents' blocks in memory. */
  readonly seconds_per_question: number;
};

/** One question's outcome in every mode; `key` identifies the question, its documents, the model, the device, and what was measured. */
export type QuestionOutcome = { readonly key: string; readonly outcomes: readonly Outcome[] };

type Outcome = {
  readonly score: Score;
  readonly agreement?: Agreement;
  readonly seconds: number;
  readonly first_ms: number;
  /** Share of the documents' tokens. */
  readonly recomputed: number;
};

/** As in the measurements of models/NOTICE.md. */
const MAX_ANSWER_TOKENS = 24;

/**
 * Answers each question in each mode and with each number of link tokens, greedily, over the same documents.
 *
 *     const questions = await readQuestions("questions.jsonl", "passages.jsonl.gz", { limit: 100 });
 *     const results = await evaluate(model, questions, { store: openBlockStore({ memory: { budget: 2 ** 29 } }) });
 *     for (const { mode, contains } of results) console.log(mode, contains);
 *
 * @throws KvspliceError `cancelled`, `too_long`, `bad_argument` for link tokens that the model does not have
 */
export async function evaluate(model: Model, questions: readonly EvalQuestion[], options: EvalOptions): Promise<EvalResult[]> {
  const {
    modes = EVAL_MODES,
    links = [NO_LINK],
    linkTokens = usualLinkTokens(model),
    store,
    known,
    device,
    onOutcome,
    signal,
    onProgress,
  } = options;
  const inFullFirst = [...modes].sort((a, b) => Number(b === "full") - Number(a === "full"));
  const tallies = inFullFirst.flatMap((mode) =>
    linkTokens.flatMap((link_tokens) => (mode === "spliced" ? links : [NO_LINK]).map((link) => newTally(mode, link, link_tokens))),
  );
  const fullOf = (tally: Tally) => tallies.find(({ mode, link_tokens }) => mode === "full" && link_tokens === tally.link_tokens);
  // Intervals take a while, so only at the end.
  const results = () => tallies.map((tally) => resultOf(tally));
  const measured = tallies.map(({ mode, link, link_tokens }) => [mode, linkText(link), link_tokens]);
  for (const [index, { question, answers, documents }] of questions.entries()) {
    const identity = [model.id, model.precision, model.card, measured, question, answers, documents];
    const key = sha256(JSON.stringify(device === undefined ? identity : [...identity, device]));
    const had = known?.get(key);
    if (had) {
      tallies.forEach((tally, i) => tally.outcomes.push(had.outcomes[i]!));
      onProgress?.(index + 1, results());
      continue;
    }
    const tokens = documents.map((document) => documentTokens(model, document));
    const documentLength = tokens.reduce((sum, own) => sum + own.length, 0);
    const full = new Map<number, Float32Array>();
    await encode(model, store, layOut(model, question, tokens, 0), signal);
    const outcomes: Outcome[] = [];
    for (const tally of tallies) {
      if (signal?.aborted) throw new KvspliceError("cancelled", "The evaluation was cancelled.", { cause: signal.reason });
      const plan = planOf(tally.mode, layOut(model, question, tokens, tally.link_tokens));
      const start = performance.now();
      let first: Float32Array | undefined;
      const { link } = tally;
      const generation = model.generate(plan, {
        store,
        link,
        stop: model.card.stop ?? [],
        maxNewTokens: MAX_ANSWER_TOKENS,
        temperature: 0,
        onLogits: (logits) => (first ??= logits),
        ...(signal && { signal }),
      });
      const answer = await generation.text;
      const { recomputed_tokens, first_token_ms } = await generation.stats;
      const seconds = (performance.now() - start) / 1000;
      if (tally.mode === "full") full.set(tally.link_tokens, first!);
      const reference = full.get(tally.link_tokens);
      const recomputed = tally.mode === "full" ? 1 : recomputed_tokens / documentLength;
      outcomes.push({
        score: scoreAnswer(answer, answers),
        ...(reference && { agreement: agreementOf(reference, first!) }),
        seconds,
        first_ms: first_token_ms,
        recomputed,
      });
    }
    tallies.forEach((tally, i) => tally.outcomes.push(outcomes[i]!));
    onOutcome?.({ key, outcomes });
    onProgress?.(index + 1, results());
  }
  return tallies.map((tally) => resultOf(tally, fullOf(tally)));
}

function usualLinkTokens({ card }: Model): number[] {
  return [0, 1, 4].filter((count) => count <= card.linkTokens.tokens.length);
}

/** A document longer than those of the training is cut, as in training. */
function documentTokens({ tokenizer, card }: Model, { title, text }: Passage): number[] {
  return tokenizer.encode(renderDocument(card, title, text)).slice(0, card.maxDocumentTokens);
}

/** Adds the plan's blocks that the store does not have. */
async function encode(model: Model, store: BlockStore, plan: Plan, signal: AbortSignal | undefined): Promise<void> {
  const sources = new Map(plan.pieces.filter(isBlockPiece).map(({ block }) => [model.keyOf(block), block]));
  await Promise.all(Array.from(sources.values(), (source) => storeBlock(model, source, { store, signal })));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
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
  /** By question. */
  readonly outcomes: Outcome[];
};

function newTally(mode: EvalMode, link: Link, link_tokens: number): Tally {
  return { mode, link, link_tokens, outcomes: [] };
}

function resultOf({ mode, link, link_tokens, outcomes }: Tally, full?: Tally): EvalResult {
  const mean = (of: (outcome: Outcome) => number, over = outcomes) => over.reduce((sum, outcome) => sum + of(outcome), 0) / over.length;
  const percent = (of: keyof Score) => 100 * mean(({ score }) => score[of]);
  const agreed = outcomes.filter(({ agreement }) => agreement !== undefined);
  const differences = full && outcomes.map(({ score }, i) => 100 * (score.contains - full.outcomes[i]!.score.contains));
  return {
    mode,
    link: linkText(link),
    link_tokens,
    questions: outcomes.length,
    ...(agreed.length > 0 && {
      kl: mean(({ agreement }) => agreement!.kl, agreed),
      same_first_token: 100 * mean(({ agreement }) => Number(agreement!.same), agreed),
    }),
    ...(differences && mode !== "full" && pairedDifference(differences)),
    recomputed: 100 * mean(({ recomputed }) => recomputed),
    first_token_ms: mean(({ first_ms }) => first_ms),
    exact_match: percent("exact"),
    contains: percent("contains"),
    f1: percent("f1"),
    seconds_per_question: mean(({ seconds }) => seconds),
  };
}
