import { afterAll, beforeAll, expect, test } from "vitest";
import { type FreshPiece, type GenerateOptions, loadModel, type Model, type Plan } from "../../engine/index.js";
import { collect, golden } from "../support/engine/golden.js";
import { memoryStore } from "../support/rag/fakes.js";

/** Tokens, and the exact log probability of each. */
type Said = readonly (readonly [id: number, logprob: number])[];

const TOKENS = 3;

/** Fifty prompts of 2 to about 300 tokens, cut from documents: two of each short length. */
const documents = golden.cases.flatMap(({ prompt_ids }) => prompt_ids);
const lengths = Array.from({ length: 50 }, (_, i) => (i < 42 ? 2 + (i >> 1) : 60 + 30 * (i - 42)));
const prompts = lengths.map((length, i): Plan => ({ pieces: [{ tokens: documents.slice(37 * i, 37 * i + length), at: 0 }] }));

let model: Model;
let alone: Said[];
const say = async (plan: Plan, options: GenerateOptions = {}): Promise<Said> =>
  (await collect(model.generate(plan, { maxNewTokens: TOKENS, logprobs: 0, ...options })))
    .filter(({ id }) => id >= 0)
    .map(({ id, logprob }) => [id, logprob!]);

beforeAll(async () => {
  model = await loadModel({ threads: 1 });
  alone = [];
  for (const prompt of prompts) alone.push(await say(prompt));
  await Promise.all([say(prompts[0]!, { maxNewTokens: 8 }), say(prompts[1]!, { maxNewTokens: 8 })]); // opens the session for several
}, 300_000);
afterAll(() => model.close());

test("an answer is the same to the last bit in a pair as alone", async () => {
  for (let i = 0; i < prompts.length; i += 2) {
    expect(await Promise.all([say(prompts[i]!), say(prompts[i + 1]!)])).toEqual([alone[i], alone[i + 1]]);
  }
}, 300_000);

test("and among many, alongside longer ones", async () => {
  const long = say({ pieces: [{ tokens: documents.slice(0, 400), at: 0 }] }, { maxNewTokens: 40 });
  expect(await Promise.all(prompts.map((prompt) => say(prompt)))).toEqual(alone);
  await long;
}, 300_000);

test("and with tokens guessed from the prompt", async () => {
  for (const [i, prompt] of prompts.entries()) expect(await say(prompt, { promptLookup: 4 })).toEqual(alone[i]);
}, 300_000);

test("and from a store with the prompt's KV as from one without", async () => {
  for (const [
    i,
    {
      pieces: [prompt],
    },
  ] of prompts.entries()) {
    const { tokens } = prompt as FreshPiece;
    const half = tokens.length >> 1;
    const kept: Plan = {
      pieces: [
        { tokens: tokens.slice(0, half), at: 0, keep: `first half of ${i}` },
        { tokens: tokens.slice(half), at: half, keep: `second half of ${i}` },
      ],
    };
    const store = memoryStore();
    const cold = await say(kept, { store });
    expect(store.blocks.size).toBe(2);
    expect(await say(kept, { store })).toEqual(cold);
  }
}, 300_000);

test("and over linked documents, in a pair, alongside others, in any order of requests, and from a full store", async () => {
  const linked = [0, 1, 2, 3].map((i): Plan => {
    const cut = (from: number, length: number) => documents.slice(1500 + 211 * i + from, 1500 + 211 * i + from + length);
    return {
      pieces: [
        { block: { tokens: cut(0, 40) }, at: 0, loose: true },
        { block: { tokens: cut(50, 60) }, at: 40, loose: true },
        { tokens: cut(120, 9 + i), at: 100, asks: true },
      ],
    };
  });
  const link = { kind: "question" as const, share: 0.3 };
  const store = memoryStore();
  const asked: Said[] = [];
  for (const plan of linked) asked.push(await say(plan, { link }));
  expect(await Promise.all(linked.map((plan) => say(plan, { link, store })))).toEqual(asked);
  expect(await Promise.all([...linked.toReversed().map((plan) => say(plan, { link, store })), say(prompts[40]!)])).toEqual([
    ...asked.toReversed(),
    alone[40],
  ]);
}, 300_000);

test("and over documents and a conversation, from an empty store and from a full one", async () => {
  for (const length of [1, 5, 30, 170, 300]) {
    const [first, second] = [documents.slice(0, length), documents.slice(400, 400 + length)];
    const store = memoryStore();
    const turn = (named: boolean): Plan => ({
      pieces: [
        { block: { tokens: first }, at: 0 },
        { tokens: second, at: length, ...(named && { keep: "system" }) },
        { tokens: documents.slice(1000, 1012), at: 2 * length, ...(named && { keep: "question" }) },
      ],
    });
    let answer: readonly number[] = [];
    const cold = await say(turn(true), { store, keepAnswer: (tokens) => ((answer = [...tokens]), "answer") });
    expect(store.blocks.size).toBe(4);
    expect(await say(turn(true), { store })).toEqual(cold);
    expect(await Promise.all([say(turn(true), { store }), say(prompts[5]!)])).toEqual([cold, alone[5]]);
    const next: Plan = {
      pieces: [
        ...turn(true).pieces,
        { tokens: answer, at: 2 * length + 12, keep: "answer" },
        { tokens: documents.slice(20, 29), at: 2 * length + 12 + answer.length, keep: "next" },
      ],
    };
    const warm = await say(next, { store });
    expect(await say(next, { store: memoryStore() })).toEqual(warm);
  }
}, 300_000);

test("and with more threads than the model has KV heads, after more rows than one sum covers at once", async () => {
  await using wide = await loadModel({ threads: 4 });
  const store = memoryStore();
  const over = (question: number): Plan => ({
    pieces: [
      ...[0, 300, 600].map((from) => ({ block: { tokens: documents.slice(from, from + 300) }, at: from })),
      { tokens: documents.slice(question, question + 9), at: 900 },
    ],
  });
  const said = async (plan: Plan, options: GenerateOptions = {}) =>
    (await collect(wide.generate(plan, { store, maxNewTokens: 12, logprobs: 0, ...options }))).map(({ id, logprob }) => [id, logprob]);
  const plans = [over(1000), over(1100)] as const;
  const first = [await said(plans[0]), await said(plans[1])];
  for (let round = 0; round < 2; round++) expect(await Promise.all(plans.map((plan) => said(plan)))).toEqual(first);
  expect(await said(plans[0], { promptLookup: 4 })).toEqual(first[0]);
}, 300_000);
