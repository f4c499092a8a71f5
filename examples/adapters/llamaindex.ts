/** LlamaIndex.TS: a query engine over a corpus, answered by a model in this process. */
import { RetrieverQueryEngine } from "@llamaindex/core/query-engine";
import { getResponseSynthesizer } from "@llamaindex/core/response-synthesizers";
import { loadModel } from "kvsplice/engine";
import { CorpusRetriever, KvspliceLLM } from "kvsplice/llamaindex";
import { openCorpus } from "kvsplice/rag";

const model = await loadModel();
const corpus = await openCorpus(process.argv[2] ?? "articles.kv", { model, create: true });
await corpus.precompute(["examples/corpus/forth-bridge.md"]);

const synthesizer = getResponseSynthesizer("compact", { llm: new KvspliceLLM({ model, maxTokens: 40 }) });
const engine = new RetrieverQueryEngine(new CorpusRetriever({ corpus, topK: 2 }), synthesizer);
const response = await engine.query({ query: "Who designed the Forth Bridge?" });
console.log(response.toString());
console.log((response.sourceNodes ?? []).map(({ node }) => node.metadata["source"]).join(", "));

await corpus.close();
await model.close();
