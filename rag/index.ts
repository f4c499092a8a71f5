/**
 * From files to answers: load, split, embed, encode; then retrieve, plan, answer.
 *
 *     const corpus = await openCorpus("articles.kv", { model, create: true });
 *     console.log(await (await corpus.ask("Who kept the lighthouse?")).text);
 */

export { type AuditOptions, audit, type Finding, FULL, type LinkAudit, recommended, summarise } from "./audit/audit.js";
export { type QuestionsOptions, questionsFrom } from "./audit/questions.js";
export { type Distance, distanceFrom, type Reference, referenceOf } from "./audit/reference.js";
export { type CollectOptions, type CollectReport, collect } from "./care/collect.js";
export type { DamagedBlock, DamagedRecord, MissingBlock, VerifyOptions, VerifyProgress, VerifyReport } from "./care/verify.js";
export { type ChatOverModel, type ChatOverOptions, chatOver } from "./chat-over.js";
export { type AnswerStats, CorpusAnswer, type Source } from "./corpus/answer.js";
export type { BlockEncoder, EncodeMissingOptions } from "./corpus/block-encoder.js";
export { Chunks, type CorpusChunk, type CorpusFile } from "./corpus/chunks.js";
export {
  type AskOptions,
  type Corpus,
  type CorpusOptions,
  type CorpusSummary,
  type Found,
  mustOpen,
  openCorpus,
  type PlanOptions,
  peekCorpus,
  type RetrieveOptions,
} from "./corpus/corpus.js";
export { type EmbedAgainOptions, embedCorpusAgain } from "./corpus/embed-again.js";
export type { Estimate, EstimateOptions } from "./corpus/estimate.js";
export type { Said } from "./corpus/follow-up.js";
export type { PrecomputeOptions, Progress, Report } from "./corpus/precompute.js";
export type { AdapterSource, ModelSource, Totals } from "./corpus/records.js";
export { type RemoveReport, removeFromCorpus } from "./corpus/remove.js";
export type { Document, LoadProblem, Paragraph } from "./document.js";
export type { Embedder, EmbedOptions } from "./embed/embedder.js";
export { type EmbedderOptions, loadEmbedder } from "./embed/load.js";
export { MINILM_ID } from "./embed/minilm.js";
export { EVAL_MODES, type EvalMode, type EvalOptions, type EvalResult, evaluate, type QuestionOutcome } from "./eval/evaluate.js";
export { type EvalQuestion, type Passage, type ReadOptions, readQuestions } from "./eval/questions.js";
export { normaliseAnswer, type Score, scoreAnswer } from "./eval/score.js";
export type { Fields, FieldValue } from "./fields.js";
export { type AnswerOptions, answer, type GivenDocument } from "./given.js";
export { isLoadable, LOADABLE } from "./load/kinds.js";
export { type Listing, listFiles } from "./load/list.js";
export { loadFile } from "./load/load.js";
export type { Loaded, LoadOptions } from "./load/loader.js";
export { type WatchOptions, watchFiles } from "./load/watch.js";
export { layOut, linkTokensOf, questionTokens, renderDocument } from "./question-plan.js";
export { type Condition, parseWhere, type Where } from "./retrieve/where.js";
export { type Chunk, type SplitOptions, splitDocument } from "./split.js";
export type { ExportOptions, ExportReport, TransferOptions, TransferProgress } from "./transfer/export.js";
export { type ImportReport, mustBeImportable, peekExport } from "./transfer/import.js";
