import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { GraphWriter } from "../../engine/backend/cpu/onnx.js";
import { WeightsFile } from "../../engine/backend/cpu/weights-file.js";
import { InferenceSession, Tensor } from "../../runtime/index.js";
import { writeFully } from "../../storage/index.js";

test.each([2, 4])("finds weights beyond %i GiB in their file", async (gibibytes) => {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-weights-"));
  try {
    const values = Float32Array.from({ length: 256 * 128 }, (_, i) => i % 7);
    const offset = gibibytes * 2 ** 30 + 4096;
    const file = openSync(join(folder, "weights.bin"), "w"); // the rest of it takes no room
    ftruncateSync(file, offset + values.byteLength);
    writeFully(file, new Uint8Array(values.buffer), offset);
    closeSync(file);
    const graph = new GraphWriter();
    const [weight] = graph.weights([{ type: "float32", dims: [256, 128] }], () => [values]);
    graph.node("MatMul", [graph.input("input", "float32", [1, 256]), weight!], {}, ["output"]);
    graph.output("output", [1, 128]);
    writeFileSync(
      join(folder, "graph.onnx"),
      graph.encode("weights.bin", () => ({ offset, length: values.byteLength })),
    );
    const session = await InferenceSession.create(join(folder, "graph.onnx"));
    const { output } = await session.run({ input: new Tensor("float32", new Float32Array(256).fill(1), [1, 256]) });
    await session.release();
    const sums = Array.from({ length: 128 }, (_, column) =>
      Array.from({ length: 256 }, (_, row) => values[row * 128 + column]!).reduce((a, b) => a + b),
    );
    expect([...(output!.data as Float32Array)]).toEqual(sums);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a weights file aligns each weight to a page, and overwrites what was truncated", () => {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-weights-"));
  try {
    const file = new WeightsFile(join(folder, "weights.bin"));
    expect([file.append(new Uint8Array(5)), file.append(new Float32Array(2000)), file.size]).toEqual([0, 4096, 12288]);
    file.cut(4096);
    expect(file.append(new Uint8Array(1))).toBe(4096);
    file.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
