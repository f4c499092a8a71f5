import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readSpec } from "../../../engine/model/arch/index.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import type { Activation } from "../../../engine/model/spec.js";
import { agreement } from "../../support/engine/models/agreement.js";
import { computed } from "../../support/engine/models/computed.js";
import { featuresOff } from "../../support/engine/models/features.js";
import { tinyGguf } from "../../support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS, type TinyModel } from "../../support/engine/models/tiny-models.js";

/** llama.cpp's logits for the tiny models, made by bench/models/golden.ts. */
const golden = JSON.parse(readFileSync(new URL("../../golden/models.json", import.meta.url), "utf8")) as {
  readonly models: Readonly<Record<string, { readonly file: string; readonly logits: readonly number[] }>>;
};

/**
 * Root mean square of the difference from llama.cpp's logits over that of the logits, both in float32. llama.cpp reads
 * GELU from a table of float16.
 */
const BOUND: Record<Activation, number> = { silu: 2e-5, clamped: 2e-5, gelu: 1e-3 };

const folder = mkdtempSync(join(tmpdir(), "kvsplice-models-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe.each(Object.entries(TINY_MODELS))("%s", (name, model: TinyModel) => {
  const reference = golden.models[name]!;
  const path = join(folder, `${name.replaceAll(/\W+/g, "-")}.gguf`);
  const bytes = tinyGguf(model);
  writeFileSync(path, bytes);
  const file = openModelFile(path);
  afterAll(() => file.close());
  const spec = readSpec(file, model.context === undefined ? {} : { contextLength: model.context });

  const bound = BOUND[spec.layers[0]!.feedForward.activation];

  test("has llama.cpp's logits", async () => {
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(reference.file);
    const found = agreement(await computed(file, spec, PROMPT), reference.logits);
    expect(found.correlation).toBeGreaterThan(0.9999);
    expect(found.difference).toBeLessThan(bound);
    expect(found.topTen).toBe(10);
  });

  test.each(featuresOff(spec).map(({ feature, spec }) => [feature, spec] as const))(
    "has different logits without %s",
    async (_, without) => {
      expect(agreement(await computed(file, without, PROMPT), reference.logits).difference).toBeGreaterThan(10 * bound);
    },
  );
});
