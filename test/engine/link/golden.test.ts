import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { loadModel, withoutCache, type Link, type Model } from "../../../engine/index.js";
import { isBlockPiece, PlanWriter, type BlockSource, type Plan } from "../../../plan/index.js";

/** Values of the PyTorch twin in train/: test/golden/linking/README.md says what they are. */
type Golden = {
  prefix: number[];
  documents: Record<string, number[]>;
  order: string[];
  question: number[];
  cases: {
    name: string;
    adapter: "encode" | "both" | null;
    behindPrefix?: boolean;
    recomputed?: number[];
    order?: string[];
    layers?: [number, number];
    last?: number | null;
    logits: number[];
    answer: number[];
  }[];
  block: { document: string; k: number[][][][]; v: number[][][][] };
};

const FOLDER = fileURLToPath(new URL("../../golden/linking", import.meta.url));
const TOLERANCE = 2e-3;
/** Ends an answer of the golden values. */
const END = 0;

const scratch = mkdtempSync(join(tmpdir(), "kvsplice-linking-"));
afterAll(() => rmSync(scratch, { recursive: true }));

/** The model, apart from its golden values, which would be read as its card. */
function modelFile(name: string): string {
  const path = join(scratch, `${name}.gguf`);
  cpSync(join(FOLDER, `${name}.gguf`), path);
  return path;
}

/** The adapter, for the passes that a case has it act on. */
function adapterFor(name: string, where: string): string {
  const folder = join(scratch, `${name}-${where}`);
  cpSync(join(FOLDER, `${name}-adapter`), folder, { recursive: true });
  const config = join(folder, "adapter_config.json");
  writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, "utf8")), kvsplice_where: where }));
  return folder;
}

describe.each(["llama", "qwen2", "qwen3"])("%s, as the twin computes it:", (name) => {
  const golden = JSON.parse(readFileSync(join(FOLDER, `${name}.json`), "utf8")) as Golden;
  const models = new Map<string, Promise<Model>>();
  const modelWith = (adapter: string | null) => {
    const key = String(adapter);
    const loaded = models.get(key) ?? loadModel({ path: modelFile(name), cacheDir: scratch, activations: "float32", precision: "float32", ...(adapter && { adapter: adapterFor(name, adapter) }) });
    models.set(key, loaded);
    return loaded;
  };
  afterAll(async () => {
    for (const model of models.values()) await (await model).close();
  });

  const sourceOf = (document: string, behindPrefix: boolean): BlockSource => ({ tokens: golden.documents[document]!, adapted: true, ...(behindPrefix && { after: golden.prefix }) });
  function planOf({ behindPrefix = false, order = golden.order }: Pick<Golden["cases"][number], "behindPrefix" | "order">): Plan {
    const writer = new PlanWriter().block({ tokens: golden.prefix });
    for (const document of order) writer.block(sourceOf(document, behindPrefix), { loose: true });
    return writer.fresh(golden.question, { asks: true }).plan;
  }

  /** The plan with the tokens at some positions fresh in their places. */
  function withFresh(plan: Plan, positions: ReadonlySet<number>): Plan {
    return {
      pieces: plan.pieces.flatMap((piece) => {
        if (!isBlockPiece(piece) || !piece.loose) return [piece];
        const { block, at } = piece;
        return block.tokens.map((token, i) => (positions.has(at + i) ? { tokens: [token], at: at + i } : { block, at, omit: [[0, i], [i + 1, block.tokens.length]] as const }));
      }),
    };
  }

  async function expectGolden(plan: Plan, { adapter, logits, answer }: Golden["cases"][number], link?: Link): Promise<void> {
    const model = await modelWith(adapter);
    const own = await model.logits(plan, link && { link });
    logits.forEach((value, i) => expect(Math.abs(own[i]! - value)).toBeLessThan(TOLERANCE));
    const said: number[] = [];
    for await (const { id } of model.generate(plan, { maxNewTokens: 6, ...(link && { link }) })) {
      said.push(id);
      if (id === END) break;
    }
    expect(said).toEqual(answer.slice(0, said.length));
  }

  test.each(golden.cases.map((each) => [each.name, each] as const))("%s", async (_, each) => {
    const plan = planOf(each);
    if (each.recomputed === undefined) return expectGolden(withoutCache(plan), each);
    await expectGolden(withFresh(plan, new Set(each.recomputed)), each);
  });

  const chosenByEnd = golden.cases.filter(({ last, recomputed }) => last === 5 && recomputed!.length > 0);
  test.each(chosenByEnd.map((each) => [each.name, each] as const))("%s, with the tokens that the question's end chooses", async (_, each) => {
    await expectGolden(planOf({ ...each, order: golden.order }), each, { kind: "question", share: 0.3, last: each.order !== undefined });
  });

  test("a document's block, encoded behind the prefix with the adapter", async () => {
    const { document, k, v } = golden.block;
    const model = await modelWith("encode");
    const block = await model.encode(sourceOf(document, true));
    const { layers } = model.form;
    let at = 0;
    layers.forEach(({ heads, headSize }, layer) => {
      for (let token = 0; token < block.tokens; token++) {
        for (let head = 0; head < heads; head++) {
          for (let i = 0; i < headSize; i++, at++) {
            expect(Math.abs(block.k[at]! - k[layer]![head]![token]![i]!)).toBeLessThan(TOLERANCE);
            expect(Math.abs(block.v[at]! - v[layer]![head]![token]![i]!)).toBeLessThan(TOLERANCE);
          }
        }
      }
    });
  });

  test("blocks of another adapter, or of another prefix, have other keys", async () => {
    const [none, encode, both] = await Promise.all([modelWith(null), modelWith("encode"), modelWith("both")]);
    const keys = [none, encode, both].flatMap((model) => [sourceOf("a", true), sourceOf("a", false), { tokens: golden.documents["a"]! }].map((source) => model.keyOf(source)));
    // Two each with and without the adapter: one that acts on every pass makes the same blocks as one that acts on these.
    expect(new Set(keys).size).toBe(4);
    expect(none.keyOf(sourceOf("a", true))).not.toBe(encode.keyOf(sourceOf("a", true)));
  });
});
