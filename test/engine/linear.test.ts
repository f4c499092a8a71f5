import { describe, expect, test } from "vitest";
import type { Activations } from "../../engine/backend/cpu/activations.js";
import { linear, type Weight } from "../../engine/backend/cpu/linear.js";
import { GraphWriter } from "../../engine/backend/cpu/onnx.js";
import { dequantize, ENCODINGS } from "../../engine/model/tensors/index.js";
import { InferenceSession, Tensor } from "../../runtime/index.js";
import { randomTensor } from "../support/engine/random-tensor.js";

const TOKENS = 3;

describe("a linear layer", () => {
  /** `[TOKENS, rows]` computed by ONNX Runtime, and by sums in float64. */
  const both = async (weights: readonly Weight[], activations: Activations) => {
    const columns = weights[0]!.tensor.shape[1]!;
    const graph = new GraphWriter();
    const input = graph.input("input", "float32", [1, "S", columns]);
    graph.node("Identity", [linear(graph, input, weights, activations)], {}, ["output"]);
    graph.output("output", [1, "S", "N"]);
    const x = Float32Array.from({ length: TOKENS * columns }, (_, i) => Math.sin(i * 1.7) + Math.cos(i * i));
    const session = await InferenceSession.create(graph.encodeWhole());
    const { output } = await session.run({ input: new Tensor("float32", x, [1, TOKENS, columns]) });
    await session.release();
    return { output: [...(output!.data as Float32Array)], expected: reference(x, weights), graph };
  };

  /** The root mean square of the difference relative to that of the reference. */
  const error = ({ output, expected }: { output: readonly number[]; expected: readonly number[] }) => {
    expect(output).toHaveLength(expected.length);
    return Math.sqrt(sumOfSquares(output.map((value, i) => value - expected[i]!)) / sumOfSquares(expected));
  };

  test.each(Object.keys(ENCODINGS) as (keyof typeof ENCODINGS)[])("with %s weights computes the product with its weights", async (type) => {
    const weights = [{ tensor: randomTensor(type, 48, 512, 1) }];
    expect(error(await both(weights, "float32"))).toBeLessThan(1e-5);
    expect(error(await both(weights, "int8"))).toBeLessThan(0.015);
  });

  test("keeps rows and their biases in order, whatever the types", async () => {
    const types = ["Q4_K", "Q4_K", "Q6_K", "Q5_0", "F16", "Q4_K", "Q8_0"] as const;
    const weights = types.map((type, i) => ({
      tensor: randomTensor(type, 16 + i, 256, i + 1),
      rowOrder: Int32Array.from({ length: 16 + i }, (_, row) => 15 + i - row),
      ...(i % 2 === 0 && { bias: randomTensor("F32", 1, 16 + i, i + 20) }),
    }));
    const computed = await both(weights, "float32");
    expect(error(computed)).toBeLessThan(1e-5);
    expect(operators(computed.graph)).toMatchObject({ MatMulNBits: 5, ReduceSum: 1, Concat: 1 });
  });

  test.each([16, 32, 48, 80])("follows a column order that moves runs of %i", async (run) => {
    for (const type of ["Q4_K", "Q6_K", "Q8_0", "F32"] as const) {
      const columns = run * 16;
      const order = Int32Array.from({ length: columns }, (_, i) => ((Math.floor(i / run) * 3) % 16) * run + (i % run));
      expect(error(await both([{ tensor: randomTensor(type, 24, columns, 5), columnOrder: order }], "float32"))).toBeLessThan(1e-5);
    }
  });

  test("moves its weights instead of its input if groups of weights stay whole", async () => {
    const order = Int32Array.from({ length: 512 }, (_, i) => (i + 256) % 512);
    const { graph } = await both([{ tensor: randomTensor("Q4_K", 24, 512, 5), columnOrder: order }], "float32");
    expect(operators(graph)["Gather"]).toBeUndefined();
  });
});

function reference(x: Float32Array, weights: readonly Weight[]): number[] {
  const columns = weights[0]!.tensor.shape[1]!;
  const rows = weights.flatMap(({ tensor, rowOrder, columnOrder, bias }) => {
    const values = dequantize(tensor);
    const biases = bias && dequantize(bias);
    return Array.from({ length: tensor.shape[0]! }, (_, i) => {
      const row = rowOrder?.[i] ?? i;
      return {
        bias: biases?.[row] ?? 0,
        values: Array.from({ length: columns }, (_, column) => values[row * columns + (columnOrder?.[column] ?? column)]!),
      };
    });
  });
  return Array.from({ length: TOKENS }, (_, token) =>
    rows.map(({ bias, values }) => values.reduce((sum, value, i) => sum + value * x[token * columns + i]!, bias)),
  ).flat();
}

const sumOfSquares = (values: readonly number[]) => values.reduce((sum, value) => sum + value * value, 0);

/** The number of nodes in a graph, by operator. */
function operators(graph: GraphWriter): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [name] of Buffer.from(graph.encodeWhole())
    .toString("latin1")
    .matchAll(/MatMulNBits|ReduceSum|Concat|Gather/g))
    counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
