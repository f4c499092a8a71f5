import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KvCache } from "../../../engine/backend/cpu/cache.js";
import { Embedding } from "../../../engine/backend/cpu/embedding.js";
import { graphId } from "../../../engine/backend/cpu/identity.js";
import { PassRunner } from "../../../engine/backend/cpu/pass.js";
import { openSessions, type Sessions } from "../../../engine/backend/cpu/session.js";
import { isBlockPiece, loadModel, type Model, type Plan, withoutCache } from "../../../engine/index.js";
import { RotaryTable } from "../../../engine/kv/rotary.js";
import { readSpec } from "../../../engine/model/arch/index.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import { writeTiny } from "../../support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS } from "../../support/engine/models/tiny-models.js";
import { largestDifference, referenceEngine } from "../../support/engine/reference.js";

const folder = mkdtempSync(join(tmpdir(), "kvsplice-spliced-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Models that differ in what matters for splicing and masks: one of each family, windows, two bases, partial rotation, none. */
const NAMES = [
  ...["llama, YaRN", "qwen2", "qwen3", "mistral3", "gemma", "gemma2", "gemma3, linear scaling"],
  ...["phi3, LongRoPE of a part of each head", "smollm3", "granite", "olmo2, windows and YaRN", "qwen3moe", "gpt-oss"],
];

/** Documents longer than the windows, one after the other, in an order that differs from their positions, with a gap. */
function planOf(order: readonly number[]): Plan {
  const documents = [PROMPT.slice(0, 20), PROMPT.slice(20, 37), PROMPT.slice(5, 30)];
  let at = 4;
  const pieces = order.map((document) => {
    const piece = { block: { tokens: documents[document]! }, at };
    at += documents[document]!.length + 3;
    return piece;
  });
  return { pieces: [{ tokens: [9, 8, 7, 6], at: 0 }, ...pieces, { tokens: PROMPT.slice(0, 6), at }] };
}

describe.each(NAMES)("%s", (name) => {
  const path = join(folder, `${name.replaceAll(/\W+/g, "-")}.gguf`);
  const cacheDir = folder;
  let model: Model;
  let reference: (plan: Plan) => Promise<Float32Array>;
  let sessions: Sessions;
  let runner: PassRunner;
  let tables: readonly RotaryTable[];

  beforeAll(async () => {
    writeTiny(path, TINY_MODELS[name]!);
    model = await loadModel({ path, activations: "float32", precision: "float32", cacheDir });
    reference = await referenceEngine(path, cacheDir);
    const file = openModelFile(path);
    const spec = readSpec(file);
    tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
    sessions = await openSessions(graphId(await file.contentHash(), spec, "float32"), file, spec, { cacheDir, activations: "float32" });
    runner = new PassRunner(sessions, spec, tables, new Embedding(file));
  });
  afterAll(async () => {
    await model.close();
    await sessions.close();
  });

  test.each([[[0, 1, 2]], [[2, 0, 1]]])("documents spliced in the order %j give the logits of computing them there", async (order) => {
    const plan = planOf(order);
    const expected = await reference(plan);
    expect(largestDifference(await model.logits(plan), expected)).toBeLessThan(1e-4 * Math.max(...expected.map(Math.abs)));
  });

  test.each([[[0, 1, 2]], [[2, 0, 1]]])(
    "documents in the order %j give full attention's logits if recomputed completely, and splicing's if not at all",
    async (order) => {
      const { pieces } = planOf(order);
      const plan: Plan = {
        pieces: pieces.map((piece, i) => (isBlockPiece(piece) ? { ...piece, loose: true } : i === 0 ? piece : { ...piece, asks: true })),
      };
      const linked = (share: number) => model.logits(plan, { link: { kind: "question", share } });
      const full = await model.logits(withoutCache(plan));
      const near = 1e-4 * Math.max(...full.map(Math.abs));
      expect(largestDifference(await linked(1), full)).toBeLessThan(near);
      const spliced = await model.logits(plan);
      expect(await linked(0)).toEqual(spliced);
      expect(largestDifference(spliced, full)).toBeGreaterThan(near);
    },
  );

  /** A prompt's last logits, with its tokens cut into passes of `step`, alongside others in each pass. */
  async function prefilled(tokens: readonly number[], step: number, beside: readonly (readonly number[])[] = []): Promise<Float32Array> {
    const caches = [tokens, ...beside].map(() => new KvCache(runner.form, tables));
    let logits = new Float32Array(0);
    for (let from = 0; from < tokens.length; from += step) {
      const parts = [tokens, ...beside].map((all, i) => {
        const own = all.slice(from, from + step);
        return { cache: caches[i]!, tokens: own, positions: own.map((_, j) => from + j), logits: 1 };
      });
      logits = (await runner.run(parts.filter((part) => part.tokens.length > 0)))[0]!.slice();
    }
    return logits;
  }

  test("a prompt cut into passes shared with others has the logits of a single separate pass", async () => {
    const alone = await prefilled(PROMPT, PROMPT.length);
    const near = 1e-4 * Math.max(...alone.map(Math.abs));
    expect(largestDifference(await prefilled(PROMPT, 7), alone)).toBeLessThan(near);
    expect(largestDifference(await prefilled(PROMPT, 13, [PROMPT.slice(3), PROMPT.slice(0, 20).reverse()]), alone)).toBeLessThan(near);
    expect(largestDifference(await prefilled(PROMPT, 1, [PROMPT.slice(3)]), alone)).toBeLessThan(near);
  });
});
