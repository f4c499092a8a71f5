import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Activations, loadModel, type Model } from "../../engine/index.js";
import { collect, type GoldenCase, golden, planOf } from "../support/engine/golden.js";
import { memoryStore } from "../support/rag/fakes.js";

/** How far the ten highest logits may differ from the float32 reference. */
const TOLERANCE: Record<Activations, number> = { int8: 1, float32: 0.02 };

type Said = {
  /** For the first token. */
  readonly logits: Float32Array;
  readonly ids: readonly number[];
  readonly text: string;
  /** For each token, its logit's lead over the second likeliest; 0 for the end of the answer. */
  readonly margins: readonly number[];
};

/** Each case's greedy answer. Blocks are encoded once, because cases share documents. */
async function answersOf(model: Model): Promise<ReadonlyMap<GoldenCase, Said>> {
  const store = memoryStore();
  const answers = new Map<GoldenCase, Said>();
  for (const each of golden.cases) {
    let logits: Float32Array | undefined;
    const tokens = await collect(
      model.generate(planOf(each), { store, maxNewTokens: 12, logprobs: 2, onLogits: (each) => (logits ??= each.slice()) }),
    );
    answers.set(each, {
      logits: logits!,
      ids: tokens.map(({ id }) => id).filter((id) => id >= 0),
      text: tokens.map(({ text }) => text).join(""),
      margins: tokens.map(({ top }) => (top ? top[0]!.logprob - top[1]!.logprob : 0)),
    });
  }
  return answers;
}

let exact: Model;
let exactAnswers: ReadonlyMap<GoldenCase, Said>;
beforeAll(async () => {
  exact = await loadModel({ activations: "float32", precision: "float32" });
  exactAnswers = await answersOf(exact);
});
afterAll(() => exact.close());

/**
 * How many of a case's first tokens must come out wherever two logits may each be off by `tolerance`, by the margins of
 * float32 activations, whose tokens are the reference's: processors without VNNI round int8 products otherwise.
 */
function sureTokens(each: GoldenCase, tolerance: number): number {
  const unsure = exactAnswers.get(each)!.margins.findIndex((margin) => margin < 2 * tolerance);
  return unsure < 0 ? each.greedy_ids.length : unsure;
}

describe.each(["int8", "float32"] as const)("the default model with %s activations", (activations) => {
  let model: Model;
  let answers: ReadonlyMap<GoldenCase, Said>;
  beforeAll(async () => {
    model = activations === "float32" ? exact : await loadModel({ activations, precision: "float32" });
    answers = activations === "float32" ? exactAnswers : await answersOf(model);
  });
  afterAll(async () => {
    if (model !== exact) await model.close();
  });

  describe.each(golden.cases)("$question ($mode, $link_tokens link tokens)", (golden) => {
    test("has the reference's ten highest logits", () => {
      const { logits } = answers.get(golden)!;
      golden.top_ids.forEach((id, i) => expect(Math.abs(logits[id]! - golden.top_logits[i]!)).toBeLessThan(TOLERANCE[activations]));
    });

    test("answers with the reference's greedy tokens, as far as the allowed error cannot change them", () => {
      const { ids, text } = answers.get(golden)!;
      const sure = activations === "float32" ? golden.greedy_ids.length : sureTokens(golden, TOLERANCE[activations]);
      expect(ids.slice(0, sure)).toEqual(golden.greedy_ids.slice(0, sure));
      if (activations === "float32") expect([ids, text]).toEqual([golden.greedy_ids, golden.greedy_text]);
    });
  });

  test("the allowed error leaves at least one case's first token certain", () => {
    expect(Math.max(...golden.cases.map((each) => sureTokens(each, TOLERANCE[activations])))).toBeGreaterThan(0);
  });

  test("encodes a document to the reference's K before the rotary embedding, and V", async () => {
    const { ids, probe } = golden.document_kv;
    const block = await model.encode({ tokens: ids });
    const tolerance = activations === "float32" ? 0.01 : 0.25;
    for (const { layer, token, head, k, v } of probe) {
      const at = ((layer * block.tokens + token) * block.layers[layer]!.heads + head) * 64;
      k.forEach((value, i) => expect(Math.abs(block.k[at + i]! - value)).toBeLessThan(tolerance));
      v.forEach((value, i) => expect(Math.abs(block.v[at + i]! - value)).toBeLessThan(tolerance));
    }
  });
});

describe.each([
  ["float16", 0.03],
  ["int8", 0.3],
] as const)("%s blocks", (precision, tolerance) => {
  test(`give the reference's ten highest logits within ${tolerance}, and its first token`, async () => {
    const model = await loadModel({ activations: "float32", precision });
    const store = memoryStore();
    for (const blocked of golden.cases.filter(({ mode }) => mode === "blocked")) {
      const logits = await model.logits(planOf(blocked), { store });
      blocked.top_ids.forEach((id, i) => expect(Math.abs(logits[id]! - blocked.top_logits[i]!)).toBeLessThan(tolerance));
      expect(logits.indexOf(logits.reduce((most, value) => Math.max(most, value)))).toBe(blocked.greedy_ids[0]);
    }
    await model.close();
  });
});

test("the GGUF's tokenizer turns the text of the prompts into the reference's tokens", async () => {
  const model = exact;
  const { system, document, question } = golden.template;
  for (const { documents, prompt_ids, link_tokens, question: asked } of golden.cases) {
    const link = model.card.linkTokens.tokens.slice(0, link_tokens).flatMap((token) => model.tokenizer.encode(token, { control: true }));
    const ids = [
      ...model.tokenizer.encode(system, { control: true }),
      ...documents.flatMap((title) => [
        ...model.tokenizer.encode(document.replace("{title}", title).replace("{text}", golden.documents[title]!)),
        ...link,
      ]),
      ...model.tokenizer.encode(question.replace("{question}", asked), { control: true }),
    ];
    expect(ids).toEqual(prompt_ids);
  }
});
