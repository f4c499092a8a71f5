/**
 * Answers over documents whose KV is computed once. Exports what most programs need from `kvsplice/engine`, `kvsplice/rag`
 * and `kvsplice/chat`.
 *
 *     const model = await loadModel();
 *     const corpus = await openCorpus("articles.kv", { model, create: true });
 *     await corpus.precompute(["docs/"]);
 *     console.log(await (await corpus.ask("Who kept the lighthouse?")).text);
 */
export { chatPlan, type Message } from "./chat/index.js";
export {
  type BlockStore,
  type GeneratedToken,
  type GenerateOptions,
  type Generation,
  type GenerationStats,
  KvspliceError,
  type LoadOptions,
  loadModel,
  type Model,
  openBlockStore,
  /** @deprecated Use `openBlockStore`. */
  openBlockStore as openStore,
  type Plan,
  type SamplingOptions,
} from "./engine/index.js";
export {
  type AskOptions,
  type Corpus,
  type CorpusOptions,
  chatOver,
  openCorpus,
  type PrecomputeOptions,
  type Source,
} from "./rag/index.js";
