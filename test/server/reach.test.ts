import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, type Model } from "../../engine/index.js";
import { type Embedder, loadEmbedder } from "../../rag/index.js";
import { type Serving, startServing } from "../support/server/serving.js";

const ORIGIN = "https://chat.example";

let model: Model;
let embedder: Embedder;
let serving: Serving;
beforeAll(async () => {
  [model, embedder] = await Promise.all([loadModel(), loadEmbedder()]);
  serving = await startServing({ model, embedder, apiKeys: ["secret"], corsOrigins: [ORIGIN], limits: { contextTokens: 1024 } });
});
afterAll(async () => {
  await serving.stop();
  await embedder.close();
  await model.close();
});

const headers = { authorization: "Bearer secret", "content-type": "application/json" };
type Completion = {
  choices: [{ message: { content: string; annotations?: unknown[] }; finish_reason: string }];
  usage: { prompt_tokens: number };
};
async function chat(fields: object, path = "/v1/chat/completions"): Promise<Completion> {
  const body = JSON.stringify({
    messages: [{ role: "user", content: "Who was the first keeper of the lighthouse at Brenna Point?" }],
    max_tokens: 12,
    ...fields,
  });
  const response = await fetch(serving.url + path, { method: "POST", headers, body });
  expect(response.status).toBe(200);
  return (await response.json()) as Completion;
}

describe("a corpus is a model", () => {
  test("whose answers come from its documents, with sources", async () => {
    const { choices } = await chat({ model: `${model.name}/articles` });
    expect(choices[0].message.content).toContain("Oda Halvorsen");
    expect(choices[0].message.annotations!.length).toBeGreaterThan(0);
  });

  test("but a client's task about a conversation retrieves no documents", async () => {
    const messages = [
      { role: "user", content: "### Task:\nSuggest a title for this conversation.\n<chat_history>\nUSER: Hello\n</chat_history>" },
    ];
    const { choices, usage } = await chat({ model: `${model.name}/articles`, messages, max_tokens: 4 });
    expect(choices[0].message.annotations).toBeUndefined();
    expect(usage.prompt_tokens).toBeLessThan(100);
  });
});

describe("close variants are understood", () => {
  test.each(["/v1/models/", "//v1//models", "/models", "/v1/models", "/health", "/health/", "/healthz"])("%s", async (path) => {
    expect((await fetch(serving.url + path, { headers })).status).toBe(200);
  });
  test.each([undefined, "default", "kvsplice-135m:latest"])("model %s", async (name) => {
    await chat({ model: name, max_tokens: 1 }, "/v1/chat/completions/");
  });
  test("but no path bypasses the key", async () => {
    for (const path of ["//v1/models", "/models", "/v1/models//"]) expect((await fetch(serving.url + path)).status).toBe(401);
  });
});

describe("pages of other origins", () => {
  const preflight = (origin: string) =>
    fetch(`${serving.url}/v1/chat/completions`, {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type" },
    });

  test("may send requests if their origin is allowed: the preflight needs no key, the request does", async () => {
    const asked = await preflight(ORIGIN);
    expect(asked.status).toBe(204);
    expect(asked.headers.get("access-control-allow-origin")).toBe(ORIGIN);
    expect(asked.headers.get("access-control-allow-headers")).toContain("authorization");
    const response = await fetch(`${serving.url}/v1/models`, { headers: { ...headers, origin: ORIGIN } });
    expect(response.headers.get("access-control-allow-origin")).toBe(ORIGIN);
    expect((await fetch(`${serving.url}/v1/models`, { headers: { origin: ORIGIN } })).status).toBe(401);
  });

  test("may not otherwise, and by default none may", async () => {
    expect((await preflight("https://evil.example")).headers.get("access-control-allow-origin")).toBeNull();
    const closed = await startServing({ model, embedder });
    const response = await fetch(`${closed.url}/v1/models`, { headers: { origin: ORIGIN } });
    expect(response.headers.get("access-control-allow-origin")).toBeNull();
    await closed.stop();
  });
});

test("an answer longer than the context allows gets what the prompt leaves", async () => {
  const { choices } = await chat({ max_tokens: 5_000, stop: ["."] });
  expect(choices[0].finish_reason).toBe("stop");
});

test("a system message can come last, as instructions after the question", async () => {
  const messages = [
    { role: "user", content: "Say hello." },
    { role: "system", content: "Be brief." },
  ];
  expect((await chat({ messages })).choices[0].message.content).not.toBe("");
});
