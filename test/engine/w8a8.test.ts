import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GraphWriter } from "../../engine/backend/cpu/onnx.js";
import { roundedLinear } from "../../engine/backend/cpu/w8a8.js";
import { type Block, type Encoding, loadModel, type Model } from "../../engine/index.js";
import { dequantize } from "../../engine/model/tensors/index.js";
import { InferenceSession, Tensor } from "../../runtime/index.js";
import { collect, golden, planOf } from "../support/engine/golden.js";
import { randomTensor } from "../support/engine/random-tensor.js";

describe("a linear layer in 8 bits", () => {
  const TOKENS = 3;

  /** `[TOKENS, rows]` computed by ONNX Runtime and exactly; returns the relative error of the first. */
  async function errorOf(
    columns: number,
    activations: (token: number, column: number) => number,
  ): Promise<{ error: number; output: Float32Array }> {
    const weights = [
      { tensor: randomTensor("Q4_K", 48, columns, 1), bias: randomTensor("F32", 1, 48, 3) },
      { tensor: randomTensor("Q6_K", 16, columns, 2), rowOrder: Int32Array.from({ length: 16 }, (_, row) => 15 - row) },
    ];
    const x = Float32Array.from({ length: TOKENS * columns }, (_, i) => activations(Math.floor(i / columns), i % columns));
    const magnitudes = Float32Array.from({ length: columns }, (_, column) =>
      Math.max(...Array.from({ length: TOKENS }, (_, token) => Math.abs(x[token * columns + column]!))),
    );
    const graph = new GraphWriter();
    const input = graph.input("input", "float32", [1, "S", columns]);
    graph.node("Identity", [roundedLinear(graph, input, weights, magnitudes)], {}, ["output"]);
    graph.output("output", [1, "S", 64]);
    const session = await InferenceSession.create(graph.encodeWhole());
    const { output } = await session.run({ input: new Tensor("float32", x, [1, TOKENS, columns]) });
    await session.release();
    const found = output!.data as Float32Array;
    const [one, other] = weights.map(({ tensor }) => dequantize(tensor));
    const bias = dequantize(weights[0]!.bias!);
    const row = (index: number) =>
      index < 48 ? one!.subarray(index * columns, (index + 1) * columns) : other!.subarray((63 - index) * columns, (64 - index) * columns);
    let [wrong, all] = [0, 0];
    found.forEach((value, i) => {
      const [token, index] = [Math.floor(i / 64), i % 64];
      const expected = row(index).reduce(
        (sum, weight, column) => sum + weight * x[token * columns + column]!,
        index < 48 ? bias[index]! : 0,
      );
      wrong += (value - expected) ** 2;
      all += expected ** 2;
    });
    return { error: Math.sqrt(wrong / all), output: found };
  }

  const even = (token: number, column: number) => Math.sin(token * 97 + column * 1.7) + Math.cos(column * column);

  test.each([512, 4864, 8960])("with %i columns computes nearly the exact product", async (columns) => {
    expect((await errorOf(columns, even)).error).toBeLessThan(0.015);
  });

  test("is not degraded by channels that are a thousand times larger", async () => {
    expect((await errorOf(512, (token, column) => even(token, column) * (column % 64 === 5 ? 1000 : 1))).error).toBeLessThan(0.001);
  });

  test("returns its bias for a token whose activations are all 0", async () => {
    const { output } = await errorOf(512, (token, column) => (token === 1 ? 0 : even(token, column)));
    const bias = dequantize(randomTensor("F32", 1, 48, 3));
    expect([...output.subarray(64, 64 + 48)]).toEqual([...bias]);
  });
});

describe("documents encoded in 8 bits", () => {
  const models = {} as Record<Encoding, Model>;
  const full = golden.cases.find(({ mode }) => mode === "full")!;

  beforeAll(async () => {
    models.exact = await loadModel({ precision: "float32" });
    models.w8a8 = await loadModel({ precision: "float32", encoding: "w8a8" });
  });
  afterAll(async () => {
    await models.exact.close();
    await models.w8a8.close();
  });

  const text = "The lighthouse on Brenna Point was lit in 1871. Its first keeper was Oda Halvorsen, who kept it for forty years.";
  const source = () => ({ tokens: models.exact.tokenizer.encode(text) });

  /** The root mean square of the difference of two blocks' V relative to that of the first. */
  function difference(a: Block, b: Block): number {
    const [values, others] = [a.v, b.v] as unknown as [Float32Array, Float32Array];
    let [wrong, all] = [0, 0];
    values.forEach((value, i) => {
      wrong += (value - others[i]!) ** 2;
      all += value ** 2;
    });
    return Math.sqrt(wrong / all);
  }

  test("have nearly the KV of exact ones, but separate keys", async () => {
    const [exact, fast] = [await models.exact.encode(source()), await models.w8a8.encode(source())];
    expect(difference(exact, fast)).toBeGreaterThan(0);
    expect(difference(exact, fast)).toBeLessThan(0.1);
    expect(models.w8a8.keyOf(source())).not.toBe(models.exact.keyOf(source()));
    expect(models.w8a8.id).not.toBe(models.exact.id);
  });

  test("are the same to the last bit, whatever else is being computed", async () => {
    const alone = await models.w8a8.encode(source());
    const answering = collect(models.w8a8.generate(planOf(full), { maxNewTokens: 8 }));
    const [beside, other] = await Promise.all([models.w8a8.encode(source()), models.w8a8.encode({ tokens: source().tokens.slice(3) })]);
    await answering;
    expect(other.tokens).toBe(source().tokens.length - 3);
    expect(beside.v).toEqual(alone.v);
    expect(beside.k).toEqual(alone.k);
  });

  test("do not affect anything else: a prompt without blocks has the same logits", async () => {
    expect(await models.w8a8.logits(planOf(full))).toEqual(await models.exact.logits(planOf(full)));
  });
});
