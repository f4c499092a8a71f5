import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Model } from "../../engine/index.js";
import type { Embedder } from "../../rag/index.js";
import { fakeEmbedder } from "../support/rag/fakes.js";
import { wordyModel } from "../support/server/fake-serving.js";
import { remove, type Serving, startServing } from "../support/server/serving.js";

let model: Model;
const embedder: Embedder = fakeEmbedder();
let serving: Serving;
/** What each of the model's passes waits for. */
let held: Promise<void> | undefined;

beforeAll(async () => {
  ({ model } = await wordyModel({ before: () => held }));
  const schemasDir = fileURLToPath(new URL("../../examples/pml/support", import.meta.url));
  serving = await startServing({ model, embedder, schemasDir, limits: { contextTokens: 1024, queue: 2 } });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
  await model.close();
});

const HELLO = [{ role: "user", content: "Hello" }];

type Refusal = { status: number; headers: Headers; error: { message: string; type: string; param: string | null; code: string | null } };

async function post(
  body: string | Uint8Array | ReadableStream,
  { path = "/v1/chat/completions", headers = {} }: { path?: string; headers?: Record<string, string> } = {},
): Promise<Refusal> {
  const response = await fetch(serving.url + path, {
    method: "POST",
    body,
    duplex: "half",
    headers: { "content-type": "application/json", ...headers },
  } as RequestInit);
  const { error } = (await response.json()) as { error: Refusal["error"] };
  return { status: response.status, headers: response.headers, error };
}

const chat = (fields: object) => post(JSON.stringify({ model: model.name, messages: HELLO, ...fields }));

/** Checks for OpenAI's format, with a sentence that reveals no internals of the server. */
function expectRefusal({ error, headers }: Refusal, expected: { type?: string; param?: string | null; code?: string; message?: RegExp }) {
  expect(Object.keys(error).sort()).toEqual(["code", "message", "param", "type"]);
  expect(error).toMatchObject({ type: "invalid_request_error", ...expected, message: expect.stringMatching(expected.message ?? /\w/) });
  expect(error.message).not.toMatch(/\n\s+at |node_modules|\.ts\b/);
  expect(error.message).not.toContain(serving.folder);
  expect(headers.get("x-request-id")).toMatch(/^req_/);
}

describe("a body", () => {
  test.each([
    ["{", "invalid_json", /not JSON/],
    ["", "invalid_json", /not JSON/],
    [Uint8Array.from([0x22, 0xff, 0xfe, 0x22]), "invalid_utf8", /UTF-8/],
    ["[]", "invalid_type", /Invalid body/],
    ["null", "invalid_type", /Invalid body/],
    [`${"[".repeat(100_000)}${"]".repeat(100_000)}`, "invalid_type", /Invalid body/],
  ])("%# that is not a request is refused as %s", async (body, code, message) => {
    const refusal = await post(body);
    expect(refusal.status).toBe(400);
    expectRefusal(refusal, { code, message });
  });

  test("of another media type is refused, because a page of another origin could send it", async () => {
    const refusal = await post("{}", { headers: { "content-type": "text/plain" } });
    expect(refusal.status).toBe(415);
    expectRefusal(refusal, { message: /application\/json/ });
  });

  test("of 100 MB is refused by its headers and while it arrives, without being stored", async () => {
    const before = process.memoryUsage().rss;
    const big = 100 * 2 ** 20;
    for (const head of [`content-length: ${big}`, "transfer-encoding: chunked"]) {
      const socket = await rawRequest(
        `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${head}\r\n\r\n`,
      );
      const answer = received(socket);
      const part = Buffer.alloc(2 ** 16, "a");
      const frame = head.startsWith("transfer")
        ? Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from("\r\n")])
        : part;
      let answered = false;
      socket.once("data", () => (answered = true));
      for (let sent = 0; sent < big && !answered && !socket.destroyed; sent += part.length) {
        await new Promise((go) => socket.write(frame, go));
      }
      socket.end();
      expect(await answer).toMatch(/^HTTP\/1\.1 413 [\s\S]*body_too_large/);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
  });

  test("of chunks within the limit is read", async () => {
    const body = Buffer.from(JSON.stringify({ model: model.name, messages: HELLO, max_tokens: 1 }));
    const socket = await rawRequest(
      "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    const answer = received(socket);
    for (const half of [body.subarray(0, 20), body.subarray(20)]) socket.write(`${half.length.toString(16)}\r\n${half}\r\n`);
    socket.write("0\r\n\r\n");
    expect(await answer).toMatch(/^HTTP\/1\.1 200/);
  });
});

describe("a field", () => {
  test.each<[object, string, string]>([
    [{ messages: undefined }, "messages", "invalid_value"],
    [{ messages: [] }, "messages", "invalid_value"],
    [{ messages: "hello" }, "messages", "invalid_type"],
    [{ messages: [{ role: "user" }] }, "messages[0].content", "invalid_value"],
    [{ messages: [{ role: "user", content: 5 }] }, "messages[0].content", "invalid_value"],
    [{ messages: [{ role: "robot", content: "a" }] }, "messages[0].role", "invalid_value"],
    [
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
      "messages[0].content[0].type",
      "invalid_value",
    ],
    [{ messages: [{ role: "assistant", content: "Hi" }] }, "messages", "invalid_value"],
    [{ model: 7 }, "model", "invalid_type"],
    [{ temperature: "warm" }, "temperature", "invalid_type"],
    [{ temperature: -1 }, "temperature", "invalid_value"],
    [{ temperature: 3 }, "temperature", "invalid_value"],
    [{ top_p: 0 }, "top_p", "invalid_value"],
    [{ seed: 1.5 }, "seed", "invalid_type"],
    [{ max_tokens: 0 }, "max_tokens", "invalid_value"],
    [{ max_tokens: 1.5 }, "max_tokens", "invalid_type"],
    [{ stop: ["a", "b", "c", "d", "e"] }, "stop", "invalid_value"],
    [{ stop: [""] }, "stop[0]", "invalid_value"],
    [{ n: 17 }, "n", "invalid_value"],
    [{ documents: [{ text: "a", url: "/etc/passwd" }] }, "documents[0].url", "invalid_value"],
    [{ top_logprobs: 2 }, "top_logprobs", "invalid_value"],
    [{ logprobs: true, top_logprobs: 21 }, "top_logprobs", "invalid_value"],
    [{ stream_options: { include_usage: true } }, "stream_options", "invalid_value"],
    [{ tools: [{ type: "function" }] }, "tools[0].function", "missing_required_parameter"],
    [{ tools: [{ type: "web_search" }] }, "tools[0].type", "invalid_value"],
    [{ tool_choice: "any" }, "tool_choice", "invalid_value"],
    [{ response_format: { type: "xml" } }, "response_format.type", "invalid_value"],
    [{ response_format: { type: "json_schema" } }, "response_format.json_schema", "missing_required_parameter"],
    [{ documents: [] }, "documents", "invalid_value"],
    [{ documents: [{ title: "a" }] }, "documents[0].text", "missing_required_parameter"],
    [{ documents: ["a"], corpus: true }, "documents", "invalid_value"],
    [{ corpus: { documents: 0 } }, "corpus.documents", "invalid_value"],
    [{ corpus: { name: 3 } }, "corpus.name", "invalid_type"],
    [{ top_k: 0.5 }, "top_k", "invalid_type"],
    [{ min_p: 2 }, "min_p", "invalid_value"],
    [{ repetition_penalty: 0 }, "repetition_penalty", "invalid_value"],
    [{ frequency_penalty: 3 }, "frequency_penalty", "invalid_value"],
    [{ logit_bias: { the: 1 } }, "logit_bias.the", "invalid_value"],
    [{ schema: "support" }, "prompt", "invalid_value"],
    [{ schema: "support", prompt: "<prompt/>" }, "messages", "invalid_value"],
    [{ prompt: "<prompt/>" }, "schema", "invalid_value"],
  ])("%# of %j is refused by its name", async (fields, param, code) => {
    const refusal = await chat(fields);
    expect(refusal.status).toBe(400);
    expectRefusal(refusal, { param, code });
  });

  test("of OpenAI's that does not affect the answer is ignored", async () => {
    const fields = {
      user: "u",
      metadata: { a: "b" },
      store: false,
      service_tier: "auto",
      parallel_tool_calls: true,
      presence_penalty: 0,
      logit_bias: {},
      tools: [],
      response_format: { type: "text" },
      temperature: null,
      stop: null,
    };
    const response = await fetch(`${serving.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: model.name, messages: HELLO, max_tokens: 1, ...fields }),
    });
    expect(response.status).toBe(200);
  });
});

describe("something missing", () => {
  test.each<[object, string, RegExp]>([
    [{ model: "gpt-4o" }, "model_not_found", /kvsplice-135m/],
    [{ corpus: "others" }, "corpus_not_found", /'articles'/],
    [{ documents: ["nothing.md#1"] }, "document_not_found", /nothing\.md#1/],
    [{ documents: ["../../etc/passwd"] }, "document_not_found", /no document/],
    [{ messages: [], schema: "none", prompt: "<prompt/>" }, "schema_not_found", /'support'/],
    [{ messages: [], schema: "../review/schema.pml", prompt: "<prompt/>" }, "schema_not_found", /'support'/],
  ])("%# is reported with 404: %j", async (fields, code, message) => {
    const refusal = await chat(fields);
    expect(refusal.status).toBe(404);
    expectRefusal(refusal, { code, message });
  });

  test.each(["/v1/nothing", "/v1/chat", "/../../etc/passwd", "/v1/models/gpt-4o"])("%s is 404", async (path) => {
    const response = await fetch(serving.url + path);
    expect(response.status).toBe(404);
    expectRefusal({ status: 404, headers: response.headers, ...((await response.json()) as Pick<Refusal, "error">) }, {});
  });

  test("errors in a prompt are reported with their line, and without the schema's path", async () => {
    const refusal = await chat({ messages: [], schema: "support", prompt: '<prompt schema="support">\n  <kettel/>Question\n</prompt>' });
    expect(refusal.status).toBe(400);
    expectRefusal(refusal, { param: "prompt", code: "bad_markup", message: /^line 2, column 4: no module `kettel`.*kettle/ });
  });

  test("values that the schema does not have are reported by name", async () => {
    const refusal = await chat({
      messages: [],
      schema: "support",
      prompt: '<prompt schema="support">Question</prompt>',
      data: { order: { product: ["a"], date: "today" }, kettle: "text" },
    });
    expect(refusal.status).toBe(400);
    expectRefusal(refusal, {
      code: "bad_markup",
      message:
        /^the value of `order\/product` is \["a"\]; it takes text or a number.*\nthe value of `kettle` is "text"; a module takes true, false/,
    });
  });
});

describe("too much", () => {
  test("a message and an answer that exceed the context are refused, with the counts", async () => {
    const long = [{ role: "user", content: "word ".repeat(2000) }];
    for (const refusal of [await chat({ messages: long }), await chat({ messages: long, corpus: true })]) {
      expect(refusal.status).toBe(400);
      expectRefusal(refusal, { code: "context_length_exceeded", message: /holds 1024 tokens/ });
    }
  });

  test("markup that cannot fit into the context is refused before it is read, by the playground too", async () => {
    const long = `<prompt schema="support">${"word ".repeat(10_000)}</prompt>`;
    const playground = (schema: string, prompt: string) => post(JSON.stringify({ schema, prompt }), { path: "/playground/api/markup" });
    for (const [param, refusal] of [
      ["prompt", await chat({ messages: [], schema: "support", prompt: long })],
      ["prompt", await playground("<schema/>", long)],
      ["schema", await playground(long, "<prompt/>")],
    ] as const) {
      expect(refusal.status).toBe(400);
      expectRefusal(refusal, { param, code: "context_length_exceeded", message: /holds 1024 tokens/ });
    }
  });

  test("a bias for a nonexistent token is refused, with the valid range", async () => {
    const refusal = await chat({ logit_bias: { "99999999": 1 } });
    expect(refusal.status).toBe(400);
    expectRefusal(refusal, { message: /token 99999999; the model has tokens 0 to \d+/ });
  });

  test("answers beyond the queue's limit are refused with 429 and Retry-After, and earlier ones complete", async () => {
    const requests = Array.from({ length: 8 }, () =>
      fetch(`${serving.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: model.name, messages: HELLO, max_tokens: 2 }),
      }),
    );
    let release!: () => void;
    held = new Promise((resolve) => (release = resolve));
    expect((await Promise.race(requests)).status).toBe(429);
    release();
    held = undefined;
    const many = await Promise.all(requests);
    const refused = many.filter(({ status }) => status === 429);
    expect(many.filter(({ status }) => status === 200).length).toBe(many.length - refused.length);
    expect(refused.length).toBeGreaterThan(0);
    for (const response of refused) {
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
      expectRefusal(
        { status: 429, headers: response.headers, ...((await response.json()) as Pick<Refusal, "error">) },
        { type: "rate_limit_error", code: "queue_full" },
      );
    }
  });

  test("a client that never completes its headers is disconnected with 408", async () => {
    const slow = await rawRequest("POST /v1/chat/completions HTTP/1.1\r\nhost: local");
    expect(await received(slow)).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("thousands of silent connections do not block others", async () => {
    const idle = await Promise.all(Array.from({ length: 2_000 }, () => rawRequest("POST /v1/chat/completions HTTP/1.1\r\nhost: local")));
    expect((await fetch(`${serving.url}/healthz`)).status).toBe(200);
    for (const socket of idle) socket.destroy();
  });
});

describe("invalid HTTP", () => {
  test.each([
    ["nonsense\r\n\r\n", 400],
    ["GET / HTTP/1.1\r\n\r\n", 400],
    ["GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n", 400],
    [`GET / HTTP/1.1\r\nhost: localhost\r\nx: ${"a".repeat(100_000)}\r\n\r\n`, 431],
    ["POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n", 400],
  ])("%# gets its status, and the server survives", async (request, status) => {
    expect(await received(await rawRequest(request))).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect((await fetch(`${serving.url}/healthz`)).status).toBe(200);
  });
});

describe("a host", () => {
  test("with another name is refused if no key is required: it may be a page whose name points here", async () => {
    const answer = await received(await rawRequest("GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"));
    expect(answer).toMatch(/^HTTP\/1\.1 403 [\s\S]*host_not_allowed/);
  });
});

describe("a key", () => {
  let guarded: Serving;
  beforeAll(async () => {
    guarded = await startServing({ model, embedder, folder: `${serving.folder}-guarded`, apiKeys: ["first key", "second"] });
  });
  afterAll(async () => {
    await guarded.stop();
    remove(guarded.folder);
  });

  test.each([
    [undefined, "missing_api_key"],
    ["Bearer wrong", "invalid_api_key"],
    ["Bearer ", "invalid_api_key"],
    ["first key", "invalid_api_key"],
  ])("that is %j is refused with 401", async (authorization, code) => {
    for (const path of ["/v1/models", "/v1/nothing", "/metrics"]) {
      const response = await fetch(guarded.url + path, { headers: authorization === undefined ? {} : { authorization } });
      expect(response.status).toBe(401);
      expectRefusal(
        { status: 401, headers: response.headers, ...((await response.json()) as Pick<Refusal, "error">) },
        { type: "authentication_error", code },
      );
    }
  });

  test.each(["first key", "second"])("%j opens", async (key) => {
    const response = await fetch(`${guarded.url}/v1/models`, { headers: { authorization: `Bearer ${key}`, host: "any.example" } });
    expect(response.status).toBe(200);
  });

  test("never appears in the log", () => {
    expect(JSON.stringify(guarded.logged)).not.toMatch(/first key|Bearer/);
  });

  test("is required for a server that other machines can reach", async () => {
    await expect(startServing({ model, embedder, folder: `${serving.folder}-open`, host: "0.0.0.0" })).rejects.toMatchObject({
      code: "bad_argument",
      message: expect.stringContaining("KVSPLICE_API_KEY"),
    });
    remove(`${serving.folder}-open`);
  });
});

/** Sends raw bytes on a separate connection. */
async function rawRequest(bytes: string): Promise<Socket> {
  const { port, hostname } = new URL(serving.url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.write(bytes);
  return socket;
}

/** Everything received until the server closes the connection. */
async function received(socket: Socket): Promise<string> {
  const parts: Buffer[] = [];
  socket.on("data", (part: Buffer) => parts.push(part));
  await new Promise((resolve) => socket.once("close", resolve));
  return Buffer.concat(parts).toString();
}

test.each([false, true])("an answer that exceeds the time limit ends with 504, and frees its place (stream: %s)", async (stream) => {
  const brief = await startServing({ model, embedder, limits: { request_ms: 1 } });
  try {
    const response = await fetch(`${brief.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: model.name, messages: HELLO, stream }),
    });
    expect([response.status, await response.json()]).toMatchObject([
      504,
      { error: { code: "timeout", message: expect.stringMatching(/longer than the 0.001 s .* fewer tokens/) } },
    ]);
    expect(model.activity).toEqual({ running: 0, queued: 0 });
  } finally {
    await brief.stop();
    remove(brief.folder);
  }
});
