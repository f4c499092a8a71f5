import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { isBlockPiece, type Model, type Plan, tokensOf } from "../../engine/index.js";
import { type Corpus, chatOver, openCorpus } from "../../rag/index.js";
import { prepareRequest } from "../../server/prepare.js";
import { chatRequest } from "../../server/requests/chat.js";
import { fakeEmbedder, memoryStore } from "../support/rag/fakes.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

let serving: Serving;
let model: Model;
let corpus: Corpus;
beforeAll(async () => {
  serving = await startFakeServing();
  ({ model, corpus } = serving.service);
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
});

const user = (content: string) => ({ role: "user" as const, content });
const assistant = (content: string) => ({ role: "assistant" as const, content });
const system = { role: "system" as const, content: "Be brief." };

/** The server's prompt for the same conversation. */
async function served(fields: object): Promise<number[]> {
  return tokensOf(await servedPlan(fields));
}

async function servedPlan(fields: object): Promise<Plan> {
  const request = chatRequest(true).parse(fields);
  return (await prepareRequest(request, serving.service, { client: "", signal: new AbortController().signal })).plan;
}

test.each([
  [[user("Who kept the light?")]],
  [[system, user("Who kept the light?")]],
  [[user("Who kept the light?"), assistant("Oda."), user("Since when?")]],
])("a conversation of %j over documents is laid out like the server's", async (history) => {
  const refs = ["lighthouse.md#1", "ferry.txt#1"];
  const documents = refs.map((ref) => corpus.chunk(ref));
  const plan = chatOver(model, history, documents);
  expect(tokensOf(plan)).toEqual(await served({ messages: history, documents: refs }));
  expect(plan.pieces.filter(isBlockPiece)).toHaveLength(3);
  if (history.length === 1) expect(plan).toEqual(corpus.plan("Who kept the light?", documents));
});

test.each([[[user("Who kept the light?")]], [[user("Who kept the light?"), assistant("Oda."), user("Since when?")]]])(
  "in a conversation of %j, the same tokens choose what is linked on the server, in a plan, and in a single question",
  async (history) => {
    const refs = ["lighthouse.md#1", "ferry.txt#1"];
    const documents = refs.map((ref) => corpus.chunk(ref));
    const asking = (plan: Plan) =>
      plan.pieces.flatMap((piece) => (isBlockPiece(piece) || !piece.asks ? [] : piece.tokens.map((token, i) => [piece.at + i, token])));
    const question = asking(chatOver(model, history, documents));
    expect(question).toEqual(asking(await servedPlan({ messages: history, documents: refs, link: "0.15" })));
    const alone = asking(corpus.plan(history.at(-1)!.content, documents)).map(([, token]) => token);
    expect(question.map(([, token]) => token).slice(-alone.length)).toEqual(alone);
  },
);

test("a corpus answers its own plans from its store, which it exposes, and closing it ends its answers", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-plan-"));
  const store = memoryStore();
  const own = await openCorpus(folder, { model, store, embedder: fakeEmbedder(), create: true });
  expect(own.store).toBe(store);
  await own.precompute([join(serving.folder, "ferry.txt")]);
  const plan = own.plan("How long does it take?", await own.retrieve("ferry"));
  const blocks = plan.pieces.filter(isBlockPiece);
  const first = await own.generate(plan, { maxNewTokens: 1 }).stats;
  expect(first.cached_tokens).toBe(blocks.slice(1).reduce((sum, { block }) => sum + block.tokens.length, 0));
  expect((await own.generate(plan, { maxNewTokens: 1 }).stats).encoded_tokens).toBe(0);
  await own.close();
  expect(() => own.generate(plan)).toThrow(expect.objectContaining({ code: "closed" }));
  rmSync(folder, { recursive: true, force: true });
});
