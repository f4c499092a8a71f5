import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { moveWeights } from "../../engine/backend/cpu/onnx.js";
import { loadModel, type Plan } from "../../engine/index.js";

const PAGE = 4096;
const plan: Plan = { pieces: [{ block: { tokens: [10, 20, 30, 40] }, at: 0 }, { tokens: [50, 60], at: 4 }] };

describe("graphs that are built once", () => {
  const cacheDir = mkdtempSync(join(tmpdir(), "kvsplice-graphs-"));
  let folder: string;
  let logits: Float32Array;

  const answer = async () => {
    const model = await loadModel({ cacheDir });
    try {
      return await model.logits(plan);
    } finally {
      await model.close();
    }
  };

  beforeAll(async () => {
    logits = await answer();
    folder = join(cacheDir, "graphs", readdirSync(join(cacheDir, "graphs"))[0]!);
  });

  afterAll(() => rmSync(cacheDir, { recursive: true }));

  test("are one folder with one weights file, and nothing of their making stays", () => {
    expect(readdirSync(join(cacheDir, "graphs"))).toHaveLength(1);
    expect(readdirSync(folder).sort()).toEqual(["adapted.onnx", "batch.onnx", "decoder.onnx", "look.onnx", "weights.bin"]);
  });

  test("have all weights where kernels read them aligned, and within the file", () => {
    const { size } = statSync(join(folder, "weights.bin"));
    for (const graph of ["adapted.onnx", "batch.onnx", "decoder.onnx", "look.onnx"]) {
      const places: [number, number][] = [];
      moveWeights(readFileSync(join(folder, graph)), (offset, length) => (places.push([offset, length]), offset));
      expect(places.length).toBeGreaterThan(400);
      expect(places.filter(([offset, length]) => offset % PAGE !== 0 || offset + length > size)).toEqual([]);
    }
  });

  test("have them in the processor's layout too, which sessions map from the file", async () => {
    const model = await loadModel({ cacheDir });
    const mapped = process.platform === "linux" ? readFileSync("/proc/self/maps", "utf8").split("\n").filter((line) => line.includes(folder)).length : undefined;
    await model.close();
    const layouts = readFileSync(join(folder, "decoder.onnx"), "latin1").match(/MatMulNBits\+\d+\|/g);
    expect(layouts).toHaveLength(121);
    if (mapped !== undefined) expect(mapped).toBeGreaterThanOrEqual(121);
  });

  test("answer the same when opened again", async () => {
    expect(await answer()).toEqual(logits);
  });

  test("answer the same on another processor, whose layout has another hash", async () => {
    const path = join(folder, "decoder.onnx");
    const own = readFileSync(path, "latin1");
    writeFileSync(path, own.replaceAll(/(MatMulNBits\+)(\d)/g, (_, name: string, digit: string) => name + ((Number(digit) % 9) + 1)), "latin1");
    expect(readFileSync(path, "latin1")).not.toBe(own);
    expect(await answer()).toEqual(logits);
  });

  test("are built again when damaged", async () => {
    writeFileSync(join(folder, "decoder.onnx"), "no graph");
    expect(await answer()).toEqual(logits);
  });
});
