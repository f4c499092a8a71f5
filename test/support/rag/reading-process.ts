/** A separate process that queries a read-only corpus: `DIR`. It prints "open" once it is, and at the end what it found, as JSON. */
import { setTimeout } from "node:timers/promises";

import { KvspliceError, openBlockStore } from "../../../engine/index.js";
import { openCorpus } from "../../../rag/index.js";
import { fakeEmbedder, fakeModel } from "./fakes.js";

const [dir] = process.argv.slice(2) as [string];
const READ_MS = 300;

const told: string[] = [];
const store = openBlockStore(
  { memory: { budget: 2 ** 20 }, disk: { path: dir } },
  { onTrouble: (message) => told.push(message), onDamage: (key) => told.push(`damaged ${key}`) },
);
const model = fakeModel();
const corpus = await openCorpus(dir, { model, store, embedder: fakeEmbedder(), create: true });
process.stdout.write("open\n");

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => "done",
    (error: unknown) => (error instanceof KvspliceError ? error.code : String(error)),
  );

let titles: string[] = [];
let missing = 0;
for (const end = Date.now() + READ_MS; Date.now() < end; await setTimeout(1)) {
  const sources = await corpus.retrieve("the", { topK: 50 });
  titles = sources.map(({ title }) => title);
  for (const { tokens } of sources) if (!(await store.get(model.keyOf({ tokens })))) missing++;
}
const answer = await corpus.ask("What does it say?");
const changes = await Promise.all([codeOf(corpus.precompute([dir])), codeOf(corpus.remove([dir]))]);
const { tokens } = { tokens: model.tokenizer.encode("New to this store.") };
const key = model.keyOf({ tokens });
await store.put(key, await model.encode({ tokens }));
const kept = await store.has(key);
process.stdout.write(`${JSON.stringify({ titles: titles.sort(), missing, text: await answer.text, changes, kept, told })}\n`);
await corpus.close();
await store.close();
