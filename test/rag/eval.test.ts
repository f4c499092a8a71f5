import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { describe, expect, test } from "vitest";

import { type Generation, isBlockPiece, type Plan } from "../../engine/index.js";
import { pairedDifference } from "../../rag/eval/bootstrap.js";
import { evaluate, normaliseAnswer, type QuestionOutcome, readQuestions, scoreAnswer } from "../../rag/index.js";
import { fakeModel, memoryStore } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

describe("scores", () => {
  test.for([
    ["The  Beatles!", "beatles"],
    ["a U.S. man, an apple; the end", "us man apple end"],
    ["Theatre of an Ant", "theatre of ant"],
    ["36-cents (exactly)", "36cents exactly"],
    ["  \n", ""],
    ["Ångström – the unit", "ångström – unit"],
    ["äthe a", "äthe"],
  ] as const)("%j is normalised to %j", ([text, normal]) => expect(normaliseAnswer(text)).toBe(normal));

  test.for([
    // 5 of 5 words.
    ["John Fowler and Benjamin Baker.", ["john fowler and benjamin baker"], { exact: 1, contains: 1, f1: 1 }],
    // "in 1890" has 1 of 2 words right and all of "1890": 2 * (1/2 * 1) / (1/2 + 1).
    ["in 1890", ["1890"], { exact: 0, contains: 1, f1: 2 / 3 }],
    // A word twice in the answer and once in the gold one: 1 in common, of 2 and of 2.
    ["red red", ["red blue"], { exact: 0, contains: 0, f1: 1 / 2 }],
    // The best gold answer counts, separately for each score.
    ["eiffel tower", ["paris", "the Eiffel Tower in Paris", "tower"], { exact: 0, contains: 1, f1: 2 / 3 }],
    ["no idea", ["42"], { exact: 0, contains: 0, f1: 0 }],
    ["", ["42"], { exact: 0, contains: 0, f1: 0 }],
    // An answer that is empty after normalisation is contained in nothing.
    ["anything", ["the"], { exact: 0, contains: 0, f1: 0 }],
  ] as const)("%j against %j", ([answer, gold, score]) => {
    const { exact, contains, f1 } = scoreAnswer(answer, gold);
    expect({ exact, contains }).toEqual({ exact: score.exact, contains: score.contains });
    expect(f1).toBeCloseTo(score.f1, 10);
  });
});

const PASSAGES = ["g", "d1", "d2", "d3", "d4"].map((id) => ({ id, title: `Title ${id}`, text: `Text of ${id}.` }));
const question = (text: string) => ({
  question: text,
  answers: ["an answer"],
  gold: "g",
  distractors: ["d1", "d2", "d3", "d4"],
  source: "test",
});

async function filesOf(questions: readonly unknown[], passages: readonly unknown[] = PASSAGES) {
  const folder = await temporaryFolder();
  const [q, p] = [join(folder, "questions.jsonl"), join(folder, "passages.jsonl.gz")];
  await writeFile(q, questions.map((each) => (typeof each === "string" ? each : JSON.stringify(each))).join("\n"));
  await writeFile(p, gzipSync(passages.map((each) => `${JSON.stringify(each)}\n`).join("")));
  return [q, p] as const;
}

describe("readQuestions", () => {
  test("a question has its gold passage and its first distractors, from plain and gzipped files", async () => {
    const [read] = await readQuestions(...(await filesOf([question("Who?")])), { documents: 3 });
    expect(read).toMatchObject({ question: "Who?", answers: ["an answer"] });
    expect(read!.documents.map(({ title }) => title).sort()).toEqual(["Title d1", "Title d2", "Title g"]);
  });

  test("each question has its own random order, the same in every run and every file", async () => {
    const texts = Array.from({ length: 40 }, (_, i) => `Question ${i}?`);
    const orders = async (asked: readonly string[], seed = 0) =>
      (await readQuestions(...(await filesOf(asked.map(question))), { seed })).map(({ documents }) =>
        documents.map(({ title }) => title).join(),
      );
    const all = await orders(texts);
    expect(await orders(texts.toReversed())).toEqual(all.toReversed());
    expect(await orders(texts, 1)).toEqual(await orders(texts, 1));
    expect(await orders(texts, 1)).not.toEqual(all);
    // The gold passage is in every place about equally often: 40 questions, 5 places.
    const places = all.map((order) => order.split(",").indexOf("Title g"));
    for (let place = 0; place < 5; place++) expect(places.filter((each) => each === place).length).toBeGreaterThan(2);
  });

  test("limit takes the first questions, and too few distractors make a shorter prompt", async () => {
    const read = await readQuestions(...(await filesOf([question("1?"), question("2?"), question("3?")])), { limit: 2, documents: 10 });
    expect(read.map(({ documents }) => documents.length)).toEqual([5, 5]);
  });

  test.for([
    [[question("1?"), "{"], PASSAGES, /questions\.jsonl:2 cannot be read/],
    [[{ ...question("1?"), answers: [] }], PASSAGES, /questions\.jsonl:1 cannot be read: .*answers/],
    [[question("1?")], PASSAGES.slice(0, 3), /has no passage d3, which the question "1\?" names/],
    [[question("1?")], [{ id: "g" }], /passages\.jsonl\.gz:1 cannot be read: .*title/],
    [[""], PASSAGES, /has no questions/],
  ] as const)("%# bad lines are reported with file and line", async ([questions, passages, message]) => {
    await expect(readQuestions(...(await filesOf(questions, passages)))).rejects.toMatchObject({
      code: "bad_file",
      message: expect.stringMatching(message),
    });
  });

  test("files that are missing or not gzipped are reported", async () => {
    const [questions, passages] = await filesOf([question("1?")]);
    await expect(readQuestions("nowhere.jsonl.gz", passages)).rejects.toMatchObject({ code: "bad_file" });
    await writeFile(passages, "plain");
    await expect(readQuestions(questions, passages)).rejects.toMatchObject({
      code: "bad_file",
      message: expect.stringContaining("passages.jsonl.gz"),
    });
  });
});

describe("evaluate", () => {
  const asked = [
    {
      question: "first",
      answers: ["fake answer"],
      documents: [
        { title: "A", text: "one" },
        { title: "B", text: "three four" },
      ],
    },
    { question: "second", answers: ["another"], documents: [{ title: "C", text: "five" }] },
  ];

  test("each mode with each number of link tokens has scores over all questions", async () => {
    const progress: number[] = [];
    const results = await evaluate(fakeModel(), asked, {
      store: memoryStore(),
      modes: ["full", "spliced"],
      linkTokens: [0, 2],
      onProgress: (done) => progress.push(done),
    });
    // The fake model answers "a fake answer": right once of two; F1 1 and 0.
    const costs = { recomputed: expect.any(Number), first_token_ms: expect.any(Number), seconds_per_question: expect.any(Number) };
    const scores = { link: "none", questions: 2, exact_match: 50, contains: 50, f1: 50, kl: 0, same_first_token: 100, ...costs };
    const beside = { difference: 0, interval: [0, 0] };
    expect(results).toEqual([
      { mode: "full", link_tokens: 0, ...scores },
      { mode: "full", link_tokens: 2, ...scores },
      { mode: "spliced", link_tokens: 0, ...scores, ...beside },
      { mode: "spliced", link_tokens: 2, ...scores, ...beside },
    ]);
    expect(progress).toEqual([1, 2]);
  });

  test("full computes all tokens, spliced puts blocks side by side, unrotated leaves each where it was encoded; the question has one place", async () => {
    const model = fakeModel();
    await evaluate(model, asked.slice(0, 1), { store: memoryStore(), linkTokens: [1] });
    const [full, spliced, unrotated] = model.plans;
    expect(full!.pieces.some(isBlockPiece)).toBe(false);
    const places = (blocks: boolean, plan: Plan) => plan.pieces.filter((piece) => isBlockPiece(piece) === blocks).map(({ at }) => at);
    const [system, first, second] = spliced!.pieces.filter(isBlockPiece).map(({ block }) => block.tokens.length);
    expect(places(true, spliced!)).toEqual([0, system, system! + first! + 1]);
    expect(places(true, unrotated!)).toEqual([0, 0, 0]);
    expect(places(false, unrotated!)).toEqual(places(false, spliced!));
    expect(places(false, spliced!).at(-1)).toBe(system! + first! + second! + 2);
    expect(full!.pieces.at(-1)).toEqual(spliced!.pieces.at(-1));
  });

  test("known outcomes are not measured again, unless something about them changed", async () => {
    const found = new Map<string, QuestionOutcome>();
    const options = { store: memoryStore(), modes: ["full", "spliced"] as const, linkTokens: [0] };
    const first = await evaluate(fakeModel(), asked, { ...options, onOutcome: (outcome) => found.set(outcome.key, outcome) });
    // As stored in a file.
    const known = new Map(JSON.parse(JSON.stringify([...found])) as [string, QuestionOutcome][]);
    const model = fakeModel();
    expect(await evaluate(model, asked, { ...options, known })).toEqual(first);
    expect(model.plans).toEqual([]);
    await evaluate(model, asked, { ...options, known, links: [{ kind: "head", tokens: 1 }] });
    expect(model.plans).toHaveLength(4);
    await evaluate(model, asked, { ...options, known, device: "webgpu" });
    expect(model.plans).toHaveLength(8);
  });

  test("a passage used by several questions is encoded once", async () => {
    const model = fakeModel();
    await evaluate(model, [asked[0]!, { ...asked[0]!, question: "again" }], { store: memoryStore(), modes: ["spliced"], linkTokens: [0] });
    expect(model.encoded).toHaveLength(3); // the system text and two passages
  });

  test("a difference from full attention has an interval, which is narrower with more questions", () => {
    const differences = (count: number) => Array.from({ length: count }, (_, i) => (i % 4 === 0 ? -100 : 0));
    const [few, many] = [pairedDifference(differences(40)), pairedDifference(differences(4000))];
    expect([few.difference, many.difference]).toEqual([-25, -25]);
    // The standard error of a share of a quarter: 6.8 of 40, 0.68 of 4,000; 95 % are within two standard errors.
    for (const bound of few.interval) expect(Math.abs(Math.abs(bound + 25) - 13.4)).toBeLessThan(2.6);
    for (const bound of many.interval) expect(Math.abs(Math.abs(bound + 25) - 1.34)).toBeLessThan(0.2);
  });

  test("a document is cut to the length that the model was trained on", async () => {
    const model = fakeModel();
    const store = memoryStore();
    await evaluate(model, [{ ...asked[1]!, documents: [{ title: "Long", text: "word ".repeat(200) }] }], {
      store,
      modes: ["spliced"],
      linkTokens: [0],
    });
    expect(model.plans[0]!.pieces.filter(isBlockPiece)[1]!.block.tokens).toHaveLength(model.card.maxDocumentTokens);
  });

  test("a signal cancels it", async () => {
    const interrupt = new AbortController();
    const generate = (): Generation => {
      interrupt.abort();
      return fakeModel().generate({ pieces: [] });
    };
    await expect(evaluate(fakeModel({ generate }), asked, { store: memoryStore(), signal: interrupt.signal })).rejects.toMatchObject({
      code: "cancelled",
    });
  });
});
