/** Files to answers: load, split, embed, encode; then retrieve, plan, answer. */
export type { CollectOptions, CollectReport } from "./care/collect.js";
export type { DamagedBlock, DamagedRecord, MissingBlock, VerifyOptions, VerifyProgress, VerifyReport } from "./care/verify.js";
export { Answer, type AnswerStats, type Source } from "./corpus/answer.js";
export { Chunks, type CorpusChunk, type CorpusFile } from "./corpus/chunks.js";
export {
  type AskOptions,
  type Corpus,
  type CorpusOptions,
  type CorpusSummary,
  openCorpus,
  peekCorpus,
  type PlanOptions,
  type RetrieveOptions,
} from "./corpus/corpus.js";
export type { Estimate, EstimateOptions } from "./corpus/estimate.js";
export type { PrecomputeOptions, Progress, Report } from "./corpus/precompute.js";
export { type RemoveReport, removeFromCorpus } from "./corpus/remove.js";
export type { BlockSupply, SupplyOptions } from "./corpus/supply.js";
export type { ModelSource, Totals } from "./corpus/records.js";
export type { Document, LoadProblem, Paragraph } from "./document.js";
export { type Embedder, type EmbedderOptions, loadEmbedder, MINILM_ID } from "./embedder.js";
export { EVAL_MODES, evaluate, type EvalMode, type EvalOptions, type EvalResult } from "./eval/evaluate.js";
export { type EvalQuestion, type Passage, readQuestions, type ReadOptions } from "./eval/questions.js";
export { normaliseAnswer, type Score, scoreAnswer } from "./eval/score.js";
export { listFiles, type Listing } from "./load/list.js";
export { isLoadable, LOADABLE } from "./load/kinds.js";
export { watchFiles, type WatchOptions } from "./load/watch.js";
export { loadFile } from "./load/load.js";
export type { Loaded, LoadOptions } from "./load/loader.js";
export { linkTokensOf, renderDocument } from "./prompt.js";
export { type Chunk, splitDocument, type SplitOptions } from "./split.js";
export type { ExportOptions, ExportReport, TransferOptions, TransferProgress } from "./transfer/export.js";
export { type ImportReport, mustBeImportable, peekExport } from "./transfer/import.js";
export { audit, type AuditOptions, type Finding, FULL, type LinkAudit, recommended, summarise } from "./audit/audit.js";
export { questionsFrom } from "./audit/questions.js";
