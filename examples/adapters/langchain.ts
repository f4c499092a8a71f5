/** LangChain.js: a chain retrieves chunks of a corpus and splices their KV to answer. */
import { RunnablePassthrough } from "@langchain/core/runnables";
import { loadModel } from "kvsplice/engine";
import { CorpusRetriever, createSplicedDocumentsChain } from "kvsplice/langchain";
import { openCorpus } from "kvsplice/rag";

const model = await loadModel();
const corpus = await openCorpus(process.argv[2] ?? "articles.kv", { model, create: true });
await corpus.precompute(["examples/corpus/forth-bridge.md", "examples/corpus/bell-rock-lighthouse.md"]);

const retriever = new CorpusRetriever({ corpus, topK: 4 });
const chain = RunnablePassthrough.assign({ context: ({ input }: { input: string }) => retriever.invoke(input) }).pipe(
  RunnablePassthrough.assign({ answer: createSplicedDocumentsChain({ model }) }),
);
const { context, answer } = await chain.invoke({ input: "Who designed the Forth Bridge?" });
console.log(answer);
console.log(context.map(({ metadata }) => metadata.source).join(", "));

await corpus.close();
await model.close();
