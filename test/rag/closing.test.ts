import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, onTestFinished, test } from "vitest";

import type { Plan } from "../../engine/index.js";
import { type CorpusAnswer, openCorpus } from "../../rag/index.js";
import { FakeBackend, fakeEngine } from "../support/engine/fake-backend.js";
import { fakeEmbedder, fakeModel, memoryStore } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

const PLACES = 2;

/** A corpus whose answers run on an engine, with passes that wait while a gate is closed. */
async function setUp() {
  let shut: Promise<void> | undefined;
  let open = () => undefined as void;
  const backend = new FakeBackend({ slots: PLACES, before: () => shut });
  const engine = fakeEngine(backend);
  onTestFinished(() => engine.close());
  const prompt: Plan = { pieces: [{ tokens: [1, 2, 3], at: 0, keep: "question" }] };
  const model = fakeModel({ generate: (_plan, options) => engine.generate(prompt, options) });
  const [root, store] = [await temporaryFolder(), memoryStore()];
  await mkdir(join(root, "docs"));
  await writeFile(join(root, "docs", "keeper.txt"), "Oda kept a diary of every ship.");
  const corpus = await openCorpus(join(root, "store"), { model, store, embedder: fakeEmbedder(), create: true });
  await corpus.precompute([join(root, "docs")]);
  const gate = { shut: () => void (shut = new Promise((resolve) => (open = resolve))), open: () => ((shut = undefined), open()) };
  return { backend, engine, corpus, store, prompt, gate };
}

test("closing a corpus ends its answers with `closed`, wherever they are, and waits until they have released everything", async () => {
  const { backend, engine, corpus, store, prompt, gate } = await setUp();
  const ask = () => corpus.ask("Who kept the diary?");
  const [unasked, ended, between] = [await ask(), await ask(), await ask()];
  await ended.text;
  await between[Symbol.asyncIterator]().next();
  gate.shut();
  const running: CorpusAnswer[] = [];
  for (let i = 0; i < 2 * PLACES; i++) running.push(await ask()); // more than there are places
  const ends = Promise.allSettled(running.map(({ text }) => text));
  const { length: passes } = backend.passes;
  while (backend.passes.length === passes) await sleep(1);

  let isClosed = false;
  const closing = corpus.close().then(() => (isClosed = true));
  await sleep(10);
  expect(isClosed).toBe(false); // a pass is running with an answer's cache
  gate.open();
  await closing;
  expect(engine.activity).toEqual({ running: 0, queued: 0 });
  for (const end of await ends)
    expect(end).toMatchObject({ status: "rejected", reason: { code: "closed", message: expect.stringContaining("corpus") } });
  for (const answer of [unasked, between]) await expect(answer.stats).rejects.toMatchObject({ code: "closed" });
  expect((await ended.stats).generated_tokens).toBe(16);

  const { size } = store.blocks;
  await sleep(5);
  expect(store.blocks.size).toBe(size); // the store can now be closed without affecting anyone
  expect(await engine.generate(prompt, { maxNewTokens: 3 }).text).toHaveLength(3); // the corpus does not own the model, so it stays open
});

test("reading an answer's properties starts nothing; awaiting its stats runs it to the end", async () => {
  const { backend, corpus } = await setUp();
  const answer = await corpus.ask("Who kept the diary?");
  const { stats, text } = answer;
  await sleep(2);
  expect([typeof stats.then, typeof text.then, backend.passes]).toEqual(["function", "function", []]);
  expect(await stats).toMatchObject({ generated_tokens: 16 });
  await using again = await corpus.ask("Who kept the diary?");
  await again.begun;
  await corpus.close();
});
