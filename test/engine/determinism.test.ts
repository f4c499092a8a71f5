import { afterAll, beforeAll, expect, test } from "vitest";
import { loadModel, type GenerateOptions, type Model, type Plan } from "../../engine/index.js";
import { memoryStore } from "../rag/fakes.js";
import { collect, golden } from "./golden.js";

/** Tokens, and the log probability of each, to the last bit. */
type Said = readonly (readonly [id: number, logprob: number])[];

const TOKENS = 3;

/** Prompts of 2 to some 300 tokens, cut out of documents. */
const documents = golden.cases.flatMap(({ prompt_ids }) => prompt_ids);
const lengths = Array.from({ length: 50 }, (_, i) => (i < 42 ? 2 + i : 60 + 30 * (i - 42)));
const prompts = lengths.map((length, i): Plan => ({ pieces: [{ tokens: documents.slice(37 * i, 37 * i + length), at: 0 }] }));

let model: Model;
let alone: Said[];
const say = async (plan: Plan, options: GenerateOptions = {}): Promise<Said> =>
  (await collect(model.generate(plan, { maxNewTokens: TOKENS, logprobs: 0, ...options }))).filter(({ id }) => id >= 0).map(({ id, logprob }) => [id, logprob!]);

beforeAll(async () => {
  model = await loadModel({ threads: 1 });
  alone = [];
  for (const prompt of prompts) alone.push(await say(prompt));
  await Promise.all([say(prompts[0]!, { maxNewTokens: 30 }), say(prompts[1]!, { maxNewTokens: 30 })]); // opens the session for several
}, 300_000);
afterAll(() => model.close());

test("an answer is, to the last bit, the same in a pair as alone", async () => {
  for (let i = 0; i < prompts.length; i += 2) {
    expect(await Promise.all([say(prompts[i]!), say(prompts[i + 1]!)])).toEqual([alone[i], alone[i + 1]]);
  }
}, 300_000);

test("and as one of many, beside others that are longer", async () => {
  const long = say({ pieces: [{ tokens: documents.slice(0, 900), at: 0 }] }, { maxNewTokens: 60 });
  expect(await Promise.all(prompts.map((prompt) => say(prompt)))).toEqual(alone);
  await long;
}, 300_000);

test("and with tokens guessed from the prompt", async () => {
  for (const [i, prompt] of prompts.entries()) if (i % 3 === 0) expect(await say(prompt, { promptLookup: 4 })).toEqual(alone[i]);
}, 300_000);

test("and over documents and a conversation, from a store that has nothing and from one that has all", async () => {
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
      pieces: [...turn(true).pieces, { tokens: answer, at: 2 * length + 12, keep: "answer" }, { tokens: documents.slice(20, 29), at: 2 * length + 12 + answer.length, keep: "next" }],
    };
    const warm = await say(next, { store });
    expect(await say(next, { store: memoryStore() })).toEqual(warm);
  }
}, 300_000);
