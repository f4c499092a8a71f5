/** A separate vector database (LanceDB, embedded) finds the documents, and kvsplice splices their KV. */
import { readFileSync } from "node:fs";
import { connect } from "@lancedb/lancedb";
import { loadModel, openBlockStore } from "../../dist/engine/index.js";
import { answer, loadEmbedder } from "../../dist/rag/index.js";

const folder = process.argv[2] ?? "lancedb";
const [model, embedder] = [await loadModel(), await loadEmbedder()];
const store = openBlockStore({ memory: { budget: 2 ** 28 }, disk: { path: `${folder}/answers.kv` } });

const articles = ["forth-bridge", "bell-rock-lighthouse", "panama-canal"].map((name) => readFileSync(`examples/corpus/${name}.md`, "utf8"));
const passages = articles.flatMap((article) =>
  article
    .split("\n\n")
    .slice(1)
    .map((text) => ({ title: article.slice(2, article.indexOf("\n")), text })),
);
const vectors = await embedder.embed(passages.map(({ text }) => text));
const database = await connect(folder);
const table = await database.createTable(
  "passages",
  passages.map((passage, i) => ({ ...passage, vector: [...vectors[i]!] })),
  { mode: "overwrite" },
);

const question = "Who designed the Forth Bridge?";
const [vector] = await embedder.embed([question]);
const documents = (
  await table
    .search([...vector!])
    .limit(4)
    .toArray()
).map(({ title, text }) => ({ title: String(title), text: String(text) }));
for (const time of ["first", "again"]) {
  const found = await answer({ model, store, question, documents });
  const { encoded_tokens, first_token_ms } = await found.stats;
  console.log(`${time}: ${await found.text} (${encoded_tokens} tokens encoded, first token after ${first_token_ms.toFixed(0)} ms)`);
}
await Promise.all([store.close(), embedder.close(), model.close()]);
