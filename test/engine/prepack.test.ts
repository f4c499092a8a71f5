import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { areGraphsSound, PIECE_BYTES } from "../../engine/backend/cpu/graph-folder.js";
import { EncodedModel } from "../../engine/backend/cpu/onnx.js";
import { type LoadProgress, loadModel, type Plan } from "../../engine/index.js";
import { tinyGguf } from "../support/engine/models/tiny-file.js";
import { TINY_MODELS } from "../support/engine/models/tiny-models.js";

const PAGE = 4096;
const plan: Plan = {
  pieces: [
    { block: { tokens: [10, 20, 30, 40] }, at: 0 },
    { tokens: [50, 60], at: 4 },
  ],
};

/** Four per layer, counting matrices with the same input as one, and the head. */
const MATRICES = 4 * 3 + 1;
/** Those of a layer have four shapes, and the head has another. */
const SHAPES = 5;

describe("graphs that are built once", () => {
  const cacheDir = mkdtempSync(join(tmpdir(), "kvsplice-graphs-"));
  const path = join(cacheDir, "tiny.gguf");
  let folder: string;
  let logits: Float32Array;
  const built: LoadProgress[] = [];

  /** Loads the model, and returns its loading steps and logits. */
  const answer = async () => {
    const steps = new Set<string>();
    const model = await loadModel({ path, cacheDir, onProgress: ({ step }) => steps.add(step) });
    try {
      return { logits: await model.logits(plan), steps: [...steps] };
    } finally {
      await model.close();
    }
  };

  beforeAll(async () => {
    writeFileSync(path, tinyGguf({ ...TINY_MODELS["llama"]!, hidden: 256, headSize: 64, feedForward: 512, type: "Q8_0" }));
    const model = await loadModel({ path, cacheDir, onProgress: (progress) => built.push(progress) });
    logits = await model.logits(plan);
    await model.close();
    folder = join(cacheDir, "graphs", readdirSync(join(cacheDir, "graphs"))[0]!);
  });

  afterAll(() => rmSync(cacheDir, { recursive: true }));

  test("are one folder with one weights file, and no temporary files remain", () => {
    expect(readdirSync(join(cacheDir, "graphs"))).toHaveLength(1);
    expect(
      readdirSync(folder)
        .filter((name) => !/^proof-\d\.onnx$/.test(name))
        .sort(),
    ).toEqual(["adapted.onnx", "batch.onnx", "decoder.onnx", "look.onnx", "manifest.json", "weights.bin", "weights.crc"]);
  });

  test("report the progress of building, and the time that is left", () => {
    const steps = built.filter(({ step }) => step === "build");
    expect(steps.length).toBeGreaterThan(10);
    expect(steps.at(-1)).toMatchObject({ done: steps[0]!.total, total: steps[0]!.total, remaining_ms: 0 });
    expect(steps.map(({ done }) => done)).toEqual(steps.map(({ done }) => done).toSorted((a, b) => a - b));
    expect(steps.slice(1).every(({ remaining_ms }) => remaining_ms! >= 0)).toBe(true);
  });

  test("contain each weight once: at most one and a half times the size of the model's own file", () => {
    expect(statSync(join(folder, "weights.bin")).size).toBeLessThan(1.5 * statSync(path).size);
  });

  test("have all weights aligned for the kernels, within the file, and in one place for all graphs", () => {
    const { size } = statSync(join(folder, "weights.bin"));
    const placesOf = (graph: string) => new EncodedModel(readFileSync(join(folder, graph))).placed();
    const places = [...placesOf("decoder.onnx").values()];
    expect(places).toHaveLength(2 * MATRICES); // each with its scales
    for (const { offset, length, packed } of places) {
      for (const part of packed ? [{ offset, length }, packed] : [{ offset, length }]) {
        expect(part.offset % PAGE).toBe(0);
        expect(part.offset + part.length).toBeLessThanOrEqual(size);
      }
    }
    expect([...placesOf("batch.onnx").values()]).toEqual(places);
  });

  test("have their matrices in the processor's layout, which sessions map from the file", async () => {
    const model = await loadModel({ path, cacheDir });
    const mapped =
      process.platform === "linux"
        ? readFileSync("/proc/self/maps", "utf8")
            .split("\n")
            .filter((line) => line.includes(folder)).length
        : undefined;
    await model.close();
    const places = [...new EncodedModel(readFileSync(join(folder, "decoder.onnx"))).placed().values()];
    expect(places.filter(({ packed }) => packed)).toHaveLength(MATRICES);
    if (mapped !== undefined) expect(mapped).toBeGreaterThanOrEqual(MATRICES);
  });

  test("share the stand-in for the scales of matrices of one shape, which sessions map once", () => {
    const places = [...new EncodedModel(readFileSync(join(folder, "decoder.onnx"))).placed().values()];
    const scales = places.filter(({ packed }) => !packed);
    expect(scales).toHaveLength(MATRICES);
    expect(new Set(scales.map(({ offset }) => offset)).size).toBe(SHAPES);
    expect(new Set(places.flatMap(({ packed }) => (packed ? [packed.key] : []))).size).toBe(MATRICES);
  });

  test("include the one that measures for encoding in 8 bits only while it measures", async () => {
    const files = readdirSync(folder);
    const model = await loadModel({ path, cacheDir, encoding: "w8a8" });
    await model.encode({ tokens: [10, 20, 30] });
    await model.close();
    expect(readdirSync(folder)).toEqual(files);
    const [encoder, ...others] = readdirSync(join(cacheDir, "graphs")).filter((name) => join(cacheDir, "graphs", name) !== folder);
    expect(others).toEqual([]);
    rmSync(join(cacheDir, "graphs", encoder!), { recursive: true });
  });

  test("answer the same when opened again, without being built or the file being read for its hash", async () => {
    expect(await answer()).toEqual({ logits, steps: [] });
  });

  test("are built once if the model is loaded several times at once", async () => {
    rmSync(folder, { recursive: true });
    const [one, other] = await Promise.all([answer(), answer()]);
    expect([one.logits, other.logits]).toEqual([logits, logits]);
    expect([one.steps, other.steps].toSorted()).toEqual([["build"], ["wait"]]);
  });

  test("are built again if the processor lays out the same weights differently", async () => {
    // As on a processor for which ONNX Runtime packs differently: there is no packed form under its hash.
    for (const name of readdirSync(folder).filter((each) => each.endsWith(".onnx"))) {
      const own = readFileSync(join(folder, name), "latin1");
      change(
        name,
        Buffer.from(
          own.replaceAll(/(MatMulNBits\+)(\d)/g, (_, key: string, digit: string) => key + ((Number(digit) % 9) + 1)),
          "latin1",
        ),
      );
    }
    expect(await answer()).toEqual({ logits, steps: ["build"] });
  });

  test.each(["decoder.onnx", "weights.crc", "manifest.json", "proof-0.onnx"])("are built again if %s is damaged", async (name) => {
    writeFileSync(join(folder, name), "damaged");
    expect(await areGraphsSound(folder, "sampled")).toBe(false);
    if (name === "decoder.onnx") expect(await answer()).toEqual({ logits, steps: ["build"] });
    else restore(name);
  });

  test("are found damaged with a flipped bit anywhere in the weights, when all are checked", async () => {
    expect(await areGraphsSound(folder, "whole")).toBe(true);
    flip([Math.floor(statSync(join(folder, "weights.bin")).size / 2)]);
    expect(await areGraphsSound(folder, "whole")).toBe(false);
    flip([Math.floor(statSync(join(folder, "weights.bin")).size / 2)]);
  });

  test("are built again if a fifth of the weights is damaged, or their end is missing", async () => {
    const { size } = statSync(join(folder, "weights.bin"));
    const places = Array.from({ length: Math.ceil(size / PIECE_BYTES / 5) }, (_, i) => 5 * i * PIECE_BYTES + 17);
    flip(places);
    expect(await areGraphsSound(folder, "sampled")).toBe(false);
    flip(places);
    expect(await areGraphsSound(folder, "sampled")).toBe(true);
    truncateSync(join(folder, "weights.bin"), size - 1);
    expect(await areGraphsSound(folder, "sampled")).toBe(false);
  });

  const before = new Map<string, Buffer>();
  const restore = (name: string) => writeFileSync(join(folder, name), before.get(name)!);
  beforeAll(() => {
    for (const name of readdirSync(folder)) if (name !== "weights.bin") before.set(name, readFileSync(join(folder, name)));
  });

  /** Changes a file's content, with the manifest updated to match. */
  function change(name: string, bytes: Buffer): void {
    writeFileSync(join(folder, name), bytes);
    const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as { sums: Record<string, number> };
    manifest.sums[name] = crc32(bytes);
    writeFileSync(join(folder, "manifest.json"), JSON.stringify(manifest));
  }

  function flip(places: readonly number[]): void {
    const weights = readFileSync(join(folder, "weights.bin"));
    for (const place of places) weights[place]! ^= 4;
    writeFileSync(join(folder, "weights.bin"), weights);
  }
});
