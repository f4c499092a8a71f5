import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { languageOf, openSchema } from "../../cli/pml-files.js";
import type { Model, Plan } from "../../engine/index.js";
import { compileMarkup, readMarkup, renderPrompt } from "../../pml/index.js";
import { fakeEmbedder } from "../support/rag/fakes.js";
import { wordyModel } from "../support/server/fake-serving.js";
import { remove, type Serving, startServing } from "../support/server/serving.js";

const SCHEMA = `<schema name="desk">
  <variable name="who" default="anyone"/>
  <user open="true">
    Help <parameter variable="who" length="2"/>.
    <module name="brief">Be brief.</module>
  </user>
</schema>
`;
const PROMPT = `<prompt schema="desk"><brief/><document ref="ferry.txt#1"/>What for?</prompt>\n`;
const data = { who: "Ada" };

let schemas: string;
let serving: Serving;
let model: Model;
const plans: Plan[] = [];

beforeAll(async () => {
  schemas = mkdtempSync(join(tmpdir(), "kvsplice-pml-"));
  writeFileSync(join(schemas, "desk.pml"), SCHEMA);
  ({ model } = await wordyModel());
  const { card } = model;
  Object.defineProperty(model, "card", { value: { ...card, linkTokens: { ...card.linkTokens, default: 2 } } });
  const generate = model.generate.bind(model);
  vi.spyOn(model, "generate").mockImplementation((plan, options) => {
    plans.push(plan);
    return generate(plan, options);
  });
  serving = await startServing({ model, embedder: fakeEmbedder(), schemasDir: schemas });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
  rmSync(schemas, { recursive: true });
});

type Told = {
  readonly usage: { readonly prompt_tokens: number };
  readonly error: { readonly message: string };
  readonly prompt: { readonly parts: unknown };
  readonly diagnostics: readonly { readonly code: string; readonly message: string }[];
};

const post = (path: string, body: object) =>
  fetch(`${serving.url}${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
const told = async (path: string, body: object) => (await (await post(path, body)).json()) as Told;

test("the command, the API and the playground make the same plan, with link tokens after documents and a program's values", async () => {
  writeFileSync(join(schemas, "prompt.pml"), PROMPT);
  writeFileSync(join(schemas, "values.json"), JSON.stringify(data));
  const [schema, prompt, values] = ["desk.pml", "prompt.pml", "values.json"].map((name) => join(schemas, name)) as [string, string, string];
  const { compiled } = await openSchema(schema, prompt, model, serving.service.corpus.blockOf, { data: values });
  expect(compiled!.segments.map(({ from }) => from.kind)).toContain("link");

  const { usage } = await told("/v1/chat/completions", { messages: [], max_tokens: 1, schema: "desk", prompt: PROMPT, data });
  expect(usage.prompt_tokens).toBe(compiled!.cachedTokens + compiled!.computedTokens);
  await (await post("/playground/api/ask", { markup: { schema: SCHEMA, prompt: PROMPT, data } })).text();
  expect(plans).toEqual([compiled!.plan, compiled!.plan]);
  const report = await told("/playground/api/markup", { schema: SCHEMA, prompt: PROMPT, data });
  expect(report.prompt.parts).toEqual(renderPrompt(compiled!));
});

test("they report the same problems", async () => {
  const wrong = { who: "far too many words for it", breif: true };
  writeFileSync(join(schemas, "values.json"), JSON.stringify(wrong));
  const files = ["desk.pml", "prompt.pml"].map((name) => readMarkup(join(schemas, name)));
  const { diagnostics } = compileMarkup(files, { language: languageOf(model), documents: serving.service.corpus.blockOf, data: wrong });
  const problems = diagnostics.map(({ code, message }) => ({ code, message }));
  expect(problems.map(({ code }) => code).toSorted()).toEqual(["argument-too-long", "unknown-module"]);

  const { error } = await told("/v1/chat/completions", { messages: [], schema: "desk", prompt: PROMPT, data: wrong });
  for (const { code, message } of problems) expect(error.message).toContain(`${message} [${code}]`);
  const report = await told("/playground/api/markup", { schema: SCHEMA, prompt: PROMPT, data: wrong });
  expect(report.diagnostics.map(({ code, message }) => ({ code, message }))).toEqual(problems);
});
