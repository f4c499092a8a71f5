import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, type Activations, type Model } from "../../engine/index.js";
import { collect, golden, planOf, type GoldenCase } from "./golden.js";

/** How far the ten highest logits may lie from the float32 reference. */
const TOLERANCE: Record<Activations, number> = { int8: 1, float32: 0.02 };

/**
 * Of each case's greedy tokens, the margin over the next likeliest one: that of float32 activations, whose tokens are the
 * reference's. A token must come out where two logits that are off by the allowed error cannot turn it: processors
 * without VNNI round int8 products otherwise.
 */
let margins: Promise<ReadonlyMap<GoldenCase, readonly number[]>> | undefined;

async function measureMargins(): Promise<ReadonlyMap<GoldenCase, readonly number[]>> {
  const exact = await loadModel({ activations: "float32", precision: "float32" });
  const found = new Map<GoldenCase, readonly number[]>();
  for (const each of golden.cases) {
    const tokens = await collect(exact.generate(planOf(each), { maxNewTokens: 12, logprobs: 2 }));
    expect(tokens.map(({ id }) => id).filter((id) => id >= 0)).toEqual(each.greedy_ids);
    found.set(each, tokens.map(({ top }) => (top ? top[0]!.logprob - top[1]!.logprob : 0)));
  }
  await exact.close();
  return found;
}

/** How many of each case's first tokens must come out wherever two logits may each be off by `tolerance`. */
async function countSureTokens(tolerance: number): Promise<Map<GoldenCase, number>> {
  const found = await (margins ??= measureMargins());
  const sure = new Map(
    golden.cases.map((each) => {
      const unsure = found.get(each)!.findIndex((margin) => margin < 2 * tolerance);
      return [each, unsure < 0 ? each.greedy_ids.length : unsure] as const;
    }),
  );
  expect(Math.max(...sure.values())).toBeGreaterThan(0);
  return sure;
}

describe.each(["int8", "float32"] as const)("the default model with %s activations", (activations) => {
  let model: Model;
  let sureTokens: ReadonlyMap<GoldenCase, number>;
  beforeAll(async () => {
    model = await loadModel({ activations, precision: "float32" });
    sureTokens = await countSureTokens(TOLERANCE[activations]);
  }, 300_000);
  afterAll(() => model.close());

  describe.each(golden.cases)("$question ($mode, $link_tokens link tokens)", (golden) => {
    test("has the reference's ten highest logits", async () => {
      const logits = await model.logits(planOf(golden));
      golden.top_ids.forEach((id, i) => expect(Math.abs(logits[id]! - golden.top_logits[i]!)).toBeLessThan(TOLERANCE[activations]));
    });

    test("answers with the reference's greedy tokens, as far as the allowed error cannot turn them", async () => {
      const sure = sureTokens.get(golden)!;
      const tokens = await collect(model.generate(planOf(golden), { maxNewTokens: 12 }));
      expect(tokens.map((token) => token.id).slice(0, sure)).toEqual(golden.greedy_ids.slice(0, sure));
      if (activations === "float32") expect(tokens.map((token) => token.text).join("")).toBe(golden.greedy_text);
    });
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
    for (const blocked of golden.cases.filter(({ mode }) => mode === "blocked")) {
      const logits = await model.logits(planOf(blocked));
      blocked.top_ids.forEach((id, i) => expect(Math.abs(logits[id]! - blocked.top_logits[i]!)).toBeLessThan(tolerance));
      expect(logits.indexOf(logits.reduce((most, value) => Math.max(most, value)))).toBe(blocked.greedy_ids[0]);
    }
    await model.close();
  });
});

test("the tokenizer of the GGUF makes the reference's prompts out of their text", async () => {
  const model = await loadModel();
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
  await model.close();
});
