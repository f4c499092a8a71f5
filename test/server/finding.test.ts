import { afterAll, beforeAll, expect, test } from "vitest";

import { fakeEmbedder } from "../support/rag/fakes.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove } from "../support/server/serving.js";

type Answer = {
  readonly choices: readonly { readonly message: { readonly annotations?: readonly unknown[] } }[];
  readonly usage: { readonly prompt_tokens: number };
  readonly kvsplice: { readonly found?: boolean; readonly documents?: unknown };
};

let serving: Awaited<ReturnType<typeof startFakeServing>>;
beforeAll(async () => {
  serving = await startFakeServing({ embedder: { ...fakeEmbedder(), floor: 0.4 } });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
});

const said = (content: string, role = "user") => ({ role, content });

async function chat(body: object): Promise<{ readonly status: number; readonly text: string; readonly answer: Answer }> {
  const response = await fetch(`${serving.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ max_tokens: 4, ...body }),
  });
  const text = await response.text();
  return { status: response.status, text, answer: JSON.parse(text) as Answer };
}

/** Titles of the documents found, best first. */
async function found(body: object): Promise<readonly string[]> {
  const { text } = await chat(body);
  return [...new Set([...text.matchAll(/"title":"([^"]*)"/g)].map(([, title]) => title!))];
}

test("a greeting is answered without sources, and the answer says that nothing was found", async () => {
  const { answer } = await chat({ corpus: true, messages: [said("hello")] });
  const plain = await chat({ messages: [said("hello")] });
  expect(answer.kvsplice.found).toBe(false);
  expect(answer.choices[0]!.message.annotations).toBeUndefined();
  expect(answer.usage.prompt_tokens).toBe(plain.answer.usage.prompt_tokens);
  expect(answer.choices).toMatchObject([{ message: { content: (plain.answer.choices[0]!.message as { content?: string }).content } }]);
  expect(plain.answer.kvsplice).not.toHaveProperty("found");
  expect(await chat({ corpus: true, link_tokens: 99, messages: [said("hello")] })).toMatchObject({
    status: 400,
    text: expect.stringContaining("link tokens"),
  });
});

test("a question that the corpus answers has sources; a request can set another floor", async () => {
  const question = [said("Who was the first keeper of the lighthouse on Brenna Point?")];
  const { answer } = await chat({ corpus: true, messages: question });
  expect(answer.choices[0]!.message.annotations!.length).toBeGreaterThan(0);
  expect(answer.kvsplice).not.toHaveProperty("found");
  expect((await chat({ corpus: { floor: 1 }, messages: question })).answer.kvsplice.found).toBe(false);
  expect(
    (await chat({ corpus: { floor: false }, messages: [said("hello")] })).answer.choices[0]!.message.annotations!.length,
  ).toBeGreaterThan(0);
});

test("conditions select documents", async () => {
  const messages = [said("What rises, what crosses, who kept a diary?")];
  expect((await found({ corpus: { floor: false }, messages })).length).toBe(3);
  expect(await found({ corpus: { floor: false, where: { path: "*.txt" } }, messages })).toEqual(["Marten ferry"]);
  const { text } = await chat({ corpus: { floor: false, where: { path: "*.txt" } }, messages });
  expect(text).toContain(`"date":"${new Date().toISOString().slice(0, 10)}`);
  expect(await found({ corpus: { floor: false, where: { title: { not: ["Sourdough", "Marten ferry"] } } }, messages })).toEqual([
    "Brenna Point",
  ]);
  const unknown = await chat({ corpus: { where: { colour: "red" } }, messages });
  expect(unknown).toMatchObject({ status: 400, text: expect.stringContaining("colour") });
  const wrong = await chat({ corpus: { where: { date: { since: "2024" } } }, messages });
  expect(wrong).toMatchObject({ status: 400, text: expect.stringContaining("corpus.where.date") });
});

test("a follow-up question is understood in context", async () => {
  const messages = [said("Tell me of the ferry at Dollis."), said("It crosses the river Marten.", "assistant"), said("And how many cars?")];
  expect((await found({ corpus: { floor: false, documents: 1 }, messages }))[0]).toBe("Marten ferry");
});
