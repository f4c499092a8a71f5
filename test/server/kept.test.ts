import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { loadModel, type Model } from "../../engine/index.js";
import { type Embedder, loadEmbedder } from "../../rag/index.js";
import { remove, type Serving, startServing } from "./serving.js";

/** Tokens that may be kept for clients: few, so that a test fills them. */
const CHAT_TOKENS = 300;

let model: Model;
let embedder: Embedder;
let serving: Serving;
beforeAll(async () => {
  [model, embedder] = await Promise.all([loadModel(), loadEmbedder()]);
});
afterAll(async () => {
  await embedder.close();
  await model.close();
});
beforeEach(async () => {
  serving = await startServing({ model, embedder, chatTokens: CHAT_TOKENS, limits: { contextTokens: 1024 } });
});
afterEach(async () => {
  await serving.stop();
  remove(serving.folder);
});

async function ask(fields: object): Promise<number> {
  const body = JSON.stringify({ model: model.name, messages: [{ role: "user", content: "What is this about?" }], max_tokens: 2, ...fields });
  const response = await fetch(`${serving.url}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body });
  await response.text();
  return response.status;
}

/** Tokens of all blocks in the store that are not the corpus's. */
async function clientTokens(): Promise<number> {
  const { store, corpus } = serving.service;
  await new Promise((resolve) => setTimeout(resolve, 50)); // what is let go of is deleted beside the answer
  let tokens = 0;
  for await (const key of store.keys()) if (!corpus.holds(key)) tokens += (await store.get(key))?.tokens ?? 0;
  return tokens;
}

const sentences = (about: string, count: number) => Array.from({ length: count }, (_, i) => `Sentence ${i} is about ${about} and little else.`).join(" ");

describe("what is kept for clients", () => {
  test("is not touched by a request that is refused", async () => {
    expect(await ask({ documents: [{ title: "Kept", text: sentences("kept things", 3) }] })).toBe(200);
    const { records } = serving.service;
    const [counted, stored] = [records.keptTokens, await clientTokens()];
    expect(counted).toBeGreaterThan(0);
    for (let i = 0; i < 5; i++) expect(await ask({ documents: [{ title: "Too long", text: sentences(`refusal ${i}`, 200) }] })).toBe(400);
    expect(records.keptTokens).toBe(counted);
    expect(await clientTokens()).toBe(stored);
  });

  test("holds its bound whatever clients send: texts, conversations, instructions that change, one text larger than it", async () => {
    for (let i = 0; i < 4; i++) {
      await ask({ corpus: true, top_k: 1, messages: [{ role: "system", content: `The time is ${i} o'clock. ${sentences("time", 2)}` }, { role: "user", content: "Who was the keeper?" }] });
      await ask({ messages: [{ role: "system", content: `You are number ${i}. ${sentences("numbers", 2)}` }, { role: "user", content: "Hello" }] });
      await ask({ documents: [{ title: `Text ${i}`, text: sentences(`text ${i}`, 40) }] });
      expect(serving.service.records.keptTokens).toBeLessThanOrEqual(CHAT_TOKENS);
      expect(await clientTokens()).toBeLessThanOrEqual(CHAT_TOKENS);
    }
  });

  test("never takes a block of the corpus with it when it goes", async () => {
    const { corpus, store } = serving.service;
    const { title, text, tokens } = corpus.chunk("lighthouse.md#1");
    const key = model.keyOf({ tokens });
    expect(await ask({ documents: [{ title, text }] })).toBe(200);
    for (let i = 0; i < 4; i++) await ask({ documents: [{ title: `Text ${i}`, text: sentences(`text ${i}`, 8) }] });
    expect(await clientTokens()).toBeLessThanOrEqual(CHAT_TOKENS);
    expect(await store.has(key)).toBe(true);
    expect(corpus.holds(key)).toBe(true);
  });
});
