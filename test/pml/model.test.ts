import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Block, type BlockStore, loadModel, type Model, type Plan, withoutCache } from "../../engine/index.js";
import {
  blocksOf,
  type Compiled,
  compilePrompt,
  type Layout,
  layoutSchema,
  type Prompt,
  parsePrompt,
  type Schema,
  throwOnErrors,
} from "../../pml/index.js";
import { largestDifference, referenceEngine } from "../support/engine/reference.js";
import { anyCase, type PlanCase } from "../support/pml/cases.js";
import { schemaOf } from "../support/pml/compiling.js";

let model: Model;
let fromScratch: (plan: Plan) => Promise<Float32Array>;

beforeAll(async () => {
  model = await loadModel({ activations: "float32", precision: "float32" });
  fromScratch = await referenceEngine();
});
afterAll(() => model.close());

function layoutOf(schema: Schema): Layout {
  const { layout, diagnostics } = layoutSchema(schema, model);
  throwOnErrors(diagnostics);
  return layout!;
}

function compile(layout: Layout, prompt: Prompt): Compiled {
  const { compiled, diagnostics } = compilePrompt(layout, prompt);
  throwOnErrors(diagnostics);
  return compiled!;
}

/** The blocks that are computed ahead; requests for any other block are refused. */
async function precomputed(layout: Layout): Promise<BlockStore> {
  const blocks = new Map<string, Block>();
  for (const source of blocksOf(layout)) blocks.set(model.keyOf(source), await model.encode(source));
  return {
    get: async (key) => blocks.get(key),
    has: async (key) => blocks.has(key),
    put: () => Promise.reject(new Error("a block of the plan was not computed ahead")),
    delete: async () => undefined,
    async *keys() {},
    close: async () => undefined,
  };
}

/** How far the logits from cached modules are from those of the same tokens computed in place. */
async function deviation(layout: Layout, { plan }: Compiled): Promise<number> {
  return largestDifference(await model.logits(plan, { store: await precomputed(layout) }), await fromScratch(plan));
}

function promptOf(markup: string): Prompt {
  const { prompt, diagnostics } = parsePrompt(markup);
  throwOnErrors(diagnostics);
  return prompt!;
}

const TRIP = `
  <schema name="trip">
    <system>You are a travel guide.</system>
    <module name="plan">
      The traveller stays for <parameter name="days" length="6"/> and pays with <parameter name="money" length="5" default="coins"/>.
      <union>
        <module name="miami">Miami is warm, wet and loud, and its beaches are long.</module>
        <module name="tokyo">Tokyo is large. <module name="food">Eat noodles at night.</module> It never sleeps.</module>
      </union>
      Trains are better than cars.
    </module>
    <module name="rain" cache="false">It rains today.</module>
    <module name="coat">A coat weighs one kilogram.</module>
    <scaffold name="weather" modules="rain-facts coat"/>
    <module name="rain-facts">In autumn it rains on every second day.</module>
    <scaffold name="city" modules="plan plan/tokyo"/>
  </schema>`;

describe("a prompt run from cached modules has the logits of one pass at the same positions with the same visibility", () => {
  test.for([
    ["gaps of modules that are left out", `<coat/>`],
    ["a member of a union, arguments shorter than their parameter", `<plan days="three days"><miami/></plan>`],
    ["an empty argument, a default", `<plan days=""/>`],
    ["nested modules", `<plan days="two"><tokyo><food/></tokyo></plan><coat/>`],
    ["a module that is computed each time", `<rain/><coat/>`],
    ["a scaffold, its modules apart in the schema", `<coat/><rain-facts/>`],
    ["a scaffold over a module with parameters and one nested in it", `<plan days="a week"><tokyo/></plan><rain-facts/>`],
  ] as const)("%s", async ([, includes]) => {
    const layout = layoutOf(schemaOf(TRIP));
    const compiled = compile(layout, promptOf(`<prompt schema="trip">${includes}<user>What should I pack?</user></prompt>`));
    expect(compiled.cachedTokens).toBeGreaterThan(0);
    expect(await deviation(layout, compiled)).toBeLessThan(1e-3);
  });

  test("for any schema and prompt", async () => {
    const anyPlan = anyCase.map(inWordsOf(model)).filter(({ schema, prompt }) => compile(layoutOf(schema), prompt).cachedTokens > 0);
    await fc.assert(
      fc.asyncProperty(anyPlan, async ({ schema, prompt }) => {
        const layout = layoutOf(schema);
        expect(await deviation(layout, compile(layout, prompt))).toBeLessThan(1e-3);
      }),
      { numRuns: 12, seed: 4 },
    );
  });
});

test("a scaffold's modules see each other: their logits differ from those of modules encoded separately", async () => {
  const prompt = promptOf(`<prompt schema="trip"><coat/><rain-facts/><user>What should I pack?</user></prompt>`);
  const without = schemaOf(TRIP.replace(/<scaffold [^>]*>/g, ""));
  const [joint, apart] = [compile(layoutOf(schemaOf(TRIP)), prompt), compile(layoutOf(without), prompt)];
  expect(joint.scaffolds).toEqual(["weather"]);
  expect(apart.computedTokens).toBe(joint.computedTokens);
  expect(largestDifference(await model.logits(joint.plan), await model.logits(apart.plan))).toBeGreaterThan(0.01);
});

test("modules that see what precedes them give the logits of the prompt without a cache, if nothing is left out", async () => {
  const markup = (context: string) => `<schema name="s" context="${context}">
  <system>You answer in one line.</system>
  <user open="true">
    <module name="m">The ferry leaves at noon. <module name="n">The tram runs until one at night.</module></module>
  </user>
</schema>`;
  const far = async (context: string, includes: string) => {
    const { plan, cachedTokens } = compile(
      layoutOf(schemaOf(markup(context))),
      promptOf(`<prompt schema="s">${includes}When does the ferry leave?</prompt>`),
    );
    expect(cachedTokens).toBeGreaterThan(20);
    return largestDifference(await model.logits(plan), await model.logits(withoutCache(plan)));
  };
  expect(await far("before", "<m/>")).toBeLessThan(1e-2);
  expect(await far("none", "<m/>")).toBeGreaterThan(0.1);
  // The block is the same whether or not KV states computed for another block are reused.
  const blocks = blocksOf(layoutOf(schemaOf(markup("before"))));
  const alone = await Promise.all(blocks.map((block) => model.encode(block)));
  for (const [i, block] of blocks.entries()) expect((await model.encode(block)).k).toEqual(alone[i]!.k);
});

/** Replaces the cases' words `w0`, `w1`, ... with words of one token each, with and without a space before them. */
function inWordsOf({ tokenizer }: Model): (drawn: PlanCase) => PlanCase {
  const words =
    "the and to in for that with on as by from at was are this it all one two time day city house water tree light road hand".split(" ");
  const single = words.filter((word) => tokenizer.encode(word).length === 1 && tokenizer.encode(` ${word}`).length === 1);
  return (drawn) =>
    JSON.parse(JSON.stringify(drawn).replace(/\bw(\d+)/g, (_, number: string) => single[Number(number) % single.length]!)) as PlanCase;
}
