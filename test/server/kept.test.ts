import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Model } from "../../engine/index.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

/** Maximum tokens kept for clients: few, so that a test can fill them. */
const CHAT_TOKENS = 300;

let serving: Serving & { readonly model: Model };
let model: Model;
beforeEach(async () => {
  serving = await startFakeServing({ chatTokens: CHAT_TOKENS, limits: { contextTokens: 1024 } });
  ({ model } = serving);
});
afterEach(async () => {
  await serving.stop();
  remove(serving.folder);
  await model.close();
});

async function ask(fields: object): Promise<number> {
  const body = JSON.stringify({
    model: model.name,
    messages: [{ role: "user", content: "What is this about?" }],
    max_tokens: 2,
    ...fields,
  });
  const response = await fetch(`${serving.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  await response.text();
  return response.status;
}

/** Tokens of all blocks in the store that do not belong to the corpus. */
async function clientTokens(): Promise<number> {
  const { store, corpus } = serving.service;
  await serving.forgotten(); // evicted blocks are deleted in parallel to the answer
  let tokens = 0;
  for await (const key of store.keys()) if (!corpus.holds(key)) tokens += (await store.get(key))?.tokens ?? 0;
  return tokens;
}

const sentences = (about: string, count: number) =>
  Array.from({ length: count }, (_, i) => `Sentence ${i} is about ${about} and little else.`).join(" ");

describe("KV kept for clients", () => {
  test("is not changed by a refused request", async () => {
    expect(await ask({ documents: [{ title: "Kept", text: sentences("kept things", 3) }] })).toBe(200);
    const { records } = serving.service;
    const [counted, stored] = [records.keptTokens, await clientTokens()];
    expect(counted).toBeGreaterThan(0);
    for (let i = 0; i < 5; i++) expect(await ask({ documents: [{ title: "Too long", text: sentences(`refusal ${i}`, 200) }] })).toBe(400);
    expect(records.keptTokens).toBe(counted);
    expect(await clientTokens()).toBe(stored);
  });

  test("stays within its limit for any requests: texts, conversations, changing instructions, one text larger than the limit", async () => {
    for (let i = 0; i < 4; i++) {
      await ask({
        corpus: { documents: 1 },
        messages: [
          { role: "system", content: `The time is ${i} o'clock. ${sentences("time", 2)}` },
          { role: "user", content: "Who was the first keeper of the lighthouse?" },
        ],
      });
      await ask({
        messages: [
          { role: "system", content: `You are number ${i}. ${sentences("numbers", 2)}` },
          { role: "user", content: "Hello" },
        ],
      });
      await ask({ documents: [{ title: `Text ${i}`, text: sentences(`text ${i}`, 40) }] });
      expect(serving.service.records.keptTokens).toBeLessThanOrEqual(CHAT_TOKENS);
      expect(await clientTokens()).toBeLessThanOrEqual(CHAT_TOKENS);
    }
  });

  test("matches the records exactly after a load that tries to exceed the limit", async () => {
    const { records, corpus } = serving.service;
    const refs = Array.from(corpus.chunks(), ({ ref }) => ref);
    let drawn = 7;
    const draw = (below: number) => (drawn = (drawn * 1_103_515_245 + 12_345) % 2 ** 31) % below; // the same load each time
    const client = async (name: number) => {
      const messages: { role: string; content: string }[] = [];
      for (let turn = 0; turn < 6; turn++) {
        messages.push({ role: "user", content: `${name}: ${sentences(`turn ${turn}`, 1 + draw(3))}` });
        const kinds = [
          {},
          { documents: [refs[draw(refs.length)], { title: `Text ${draw(3)}`, text: sentences(`text ${draw(3)}`, 1 + draw(20)) }] },
          { corpus: { documents: 1 + draw(2) } },
          { documents: [{ title: "Too long", text: sentences("refusal", 200) }] },
        ];
        const system = draw(2) === 0 ? [] : [{ role: "system", content: `The time is ${draw(100)}.` }];
        await ask({ messages: [...system, ...messages], ...kinds[draw(kinds.length)], user: `client ${draw(2)}` });
        messages.push({ role: "assistant", content: sentences(`answer ${turn}`, 1) });
        if (draw(3) === 0) messages.splice(0, 2);
        expect(records.keptTokens).toBeLessThanOrEqual(CHAT_TOKENS);
      }
    };
    await Promise.all([0, 1, 2, 3].map(client));
    expect(records.keptTokens).toBeGreaterThan(0);
    await expect.poll(clientTokens).toBe(records.keptTokens);
  });

  test("never takes a block of the corpus with it when it is removed", async () => {
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
