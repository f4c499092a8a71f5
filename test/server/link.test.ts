import { afterAll, beforeAll, expect, test } from "vitest";
import type { Model } from "../../engine/index.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

let serving: Serving & { readonly model: Model };
beforeAll(async () => {
  serving = await startFakeServing({ link: { kind: "question", share: 0.25 } });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
  await serving.model.close();
});

const documents = [{ title: "The ferry", text: "The ferry at Dollis crosses the river in four minutes. It carries six cars and a van." }];

async function ask(fields: object): Promise<{ readonly status: number; readonly recomputed: number; readonly text: string }> {
  const body = JSON.stringify({
    model: serving.model.name,
    messages: [{ role: "user", content: "How long does it take?" }],
    documents,
    max_tokens: 2,
    ...fields,
  });
  const response = await fetch(`${serving.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  const text = await response.text();
  const { kvsplice } = JSON.parse(text) as { kvsplice?: { recomputed_tokens: number } };
  return { status: response.status, recomputed: kvsplice?.recomputed_tokens ?? 0, text };
}

test("documents are linked as the server or the request says; auto means the corpus's way", async () => {
  const { recomputed } = await ask({});
  expect(recomputed).toBeGreaterThan(4);
  expect((await ask({ link: "0.5" })).recomputed).toBeGreaterThan(1.5 * recomputed);
  expect((await ask({ link: "none" })).recomputed).toBe(0);
  expect((await ask({ link: "auto" })).recomputed).toBe(0); // the model's card says none
  serving.service.corpus.link = { kind: "question", share: 0.5 };
  expect((await ask({ link: "auto" })).recomputed).toBeGreaterThan(1.5 * recomputed);
});

test("an unknown way of linking is refused, with the valid ones", async () => {
  expect(await ask({ link: "most" })).toMatchObject({ status: 400, text: expect.stringContaining("link") });
});
