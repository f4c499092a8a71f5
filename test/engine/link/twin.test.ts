import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { type Link, loadModel, type Model, NO_LINK, withoutCache } from "../../../engine/index.js";
import { type BlockSource, type Plan, PlanWriter } from "../../../plan/index.js";

/** test/golden/linking/README.md describes each field. */
type Case = {
  name: string;
  adapter: "encode" | "both" | null;
  behindPrefix?: boolean;
  recomputed?: number[];
  logits: number[];
  answer: number[];
};
type Golden = {
  prefix: number[];
  documents: Record<string, number[]>;
  order: string[];
  question: number[];
  cases: Case[];
  block: { document: string; k: number[][][][]; v: number[][][][] };
};

const LINKS: Record<string, Link> = {
  recompute: { kind: "question", share: 0.3 },
  "recompute everything": { kind: "question", share: 1 },
  order: { kind: "question", share: 0.3, last: true },
  first: { kind: "head", tokens: 4 },
  "encoding adapter, recompute": { kind: "question", share: 0.3 },
};
/** Choices that kvsplice does not offer: other rows of the question, CacheBlend's. */
const TWIN_ALONE = ["recompute, all rows", "deviation"];
const TOLERANCE = 2e-3;

const folder = fileURLToPath(new URL("../../golden/linking/", import.meta.url));
const read = (name: string) => JSON.parse(readFileSync(path.join(folder, `${name}-values.json`), "utf8")) as Golden;

describe.each(["llama", "qwen2", "qwen3"])("a tiny %s computes the same as its PyTorch twin in train/", (name) => {
  const golden = read(name);
  const scratch = mkdtempSync(path.join(tmpdir(), "twin-"));
  const models = new Map<Case["adapter"], Promise<Model>>();
  afterAll(async () => {
    for (const model of models.values()) await (await model).close();
    rmSync(scratch, { recursive: true });
  });

  const modelWith = (adapter: Case["adapter"]): Promise<Model> => {
    const loaded = models.get(adapter) ?? load(adapter);
    models.set(adapter, loaded);
    return loaded;
  };
  const load = (adapter: Case["adapter"]) =>
    loadModel({
      path: path.join(folder, `${name}.gguf`),
      activations: "float32",
      precision: "float32",
      cacheDir: scratch,
      ...(adapter && { adapters: [{ path: adapterFolder(adapter) }] }),
    });
  /** The same factors, set to act on other passes. */
  const adapterFolder = (where: "encode" | "both"): string => {
    const own = path.join(folder, `${name}-adapter`);
    if (where === "encode") return own;
    const copy = path.join(scratch, "both");
    cpSync(own, copy, { recursive: true });
    const file = path.join(copy, "adapter_config.json");
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), kvsplice_where: where }));
    return copy;
  };

  const blockOf = (document: string, { adapter, behindPrefix }: Pick<Case, "adapter" | "behindPrefix">): BlockSource => ({
    tokens: golden.documents[document]!,
    ...(behindPrefix && { after: golden.prefix }),
    ...(adapter === "encode" && { adapted: true as const }),
  });
  const planOf = (each: Case): Plan => {
    const writer = new PlanWriter().block({ tokens: golden.prefix });
    for (const document of golden.order) writer.block(blockOf(document, each), { loose: true });
    const { plan } = writer.fresh(golden.question, { asks: true });
    return each.name.startsWith("full attention") ? withoutCache(plan) : plan;
  };

  const cases = golden.cases.filter((each) => !TWIN_ALONE.includes(each.name)).map((each) => [each.name, each] as const);
  test.each(cases)("%s", async (_, each) => {
    const model = await modelWith(each.adapter);
    const link = LINKS[each.name] ?? NO_LINK;
    const generation = model.generate(planOf(each), { link, maxNewTokens: 1 });
    await generation.text;
    if (each.recomputed) expect((await generation.stats).recomputed_tokens).toBe(each.recomputed.length);
    const logits = await model.logits(planOf(each), { link });
    each.logits.forEach((value, token) => expect(Math.abs(logits[token]! - value), `token ${token}`).toBeLessThan(TOLERANCE));
  });

  test("blocks of another adapter, or after another prefix, have different keys", async () => {
    const [none, encode] = await Promise.all([modelWith(null), modelWith("encode")]);
    const sources = [true, false].flatMap((behindPrefix) =>
      (["encode", null] as const).map((adapter) => blockOf("a", { adapter, behindPrefix })),
    );
    expect(new Set(sources.map((source) => none.keyOf(source))).size).toBe(2); // without an adapter there is nothing to act
    expect(new Set(sources.flatMap((source) => [none.keyOf(source), encode.keyOf(source)])).size).toBe(4);
  });

  test("a block after the prefix, encoded with the adapter", async () => {
    const model = await modelWith("encode");
    const block = await model.encode(blockOf(golden.block.document, { adapter: "encode", behindPrefix: true }));
    for (const side of ["k", "v"] as const) {
      golden.block[side].forEach((heads, layer) =>
        heads.forEach((tokens, head) =>
          tokens.forEach((values, token) => {
            const at = ((layer * block.tokens + token) * heads.length + head) * values.length;
            values.forEach((value, i) =>
              expect(Math.abs(block[side][at + i]! - value), `${side} of layer ${layer}, token ${token}`).toBeLessThan(TOLERANCE),
            );
          }),
        ),
      );
    }
  });
});
