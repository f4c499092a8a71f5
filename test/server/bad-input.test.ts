import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { loadModel, type Model } from "../../engine/index.js";
import { loadEmbedder, type Embedder } from "../../rag/index.js";
import { remove, startServing, type Serving } from "./serving.js";

let model: Model;
let embedder: Embedder;
let serving: Serving;

beforeAll(async () => {
  [model, embedder] = await Promise.all([loadModel(), loadEmbedder()]);
  const schemasDir = new URL("../../examples/pml/support", import.meta.url).pathname;
  serving = await startServing({ model, embedder, schemasDir, limits: { contextTokens: 1024, queue: 2 } });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
  await embedder.close();
  await model.close();
});

const HELLO = [{ role: "user", content: "Hello" }];

type Refusal = { status: number; headers: Headers; error: { message: string; type: string; param: string | null; code: string | null } };

async function post(body: string | Uint8Array | ReadableStream, { path = "/v1/chat/completions", headers = {} }: { path?: string; headers?: Record<string, string> } = {}): Promise<Refusal> {
  const response = await fetch(serving.url + path, { method: "POST", body, duplex: "half", headers: { "content-type": "application/json", ...headers } } as RequestInit);
  const { error } = (await response.json()) as { error: Refusal["error"] };
  return { status: response.status, headers: response.headers, error };
}

const chat = (fields: object) => post(JSON.stringify({ model: model.name, messages: HELLO, ...fields }));

/** OpenAI's shape, a sentence, and nothing of the server's insides. */
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
  ])("%# that is no request is refused as %s", async (body, code, message) => {
    const refusal = await post(body);
    expect(refusal.status).toBe(400);
    expectRefusal(refusal, { code, message });
  });

  test("of another media type is refused: a foreign page could send it", async () => {
    const refusal = await post("{}", { headers: { "content-type": "text/plain" } });
    expect(refusal.status).toBe(415);
    expectRefusal(refusal, { message: /application\/json/ });
  });

  test("of 100 MB is refused at its head, and while it comes, without being held", async () => {
    const before = process.memoryUsage().rss;
    const big = 100 * 2 ** 20;
    for (const head of [`content-length: ${big}`, "transfer-encoding: chunked"]) {
      const socket = await rawRequest(`POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${head}\r\n\r\n`);
      const answer = received(socket);
      const part = Buffer.alloc(2 ** 16, "a");
      const frame = head.startsWith("transfer") ? Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from("\r\n")]) : part;
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
    const socket = await rawRequest("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
    const answer = received(socket);
    for (const half of [body.subarray(0, 20), body.subarray(20)]) socket.write(`${half.length.toString(16)}\r\n${half}\r\n`);
    socket.write("0\r\n\r\n");
    expect(await answer).toMatch(/^HTTP\/1\.1 200/);
  });
});

describe("a field", () => {
  test.each<[object, string, string]>([
    [{ foo: 1 }, "foo", "unknown_parameter"],
    [{ messages: [{ role: "user", content: "a", mood: "b" }] }, "messages[0].mood", "unknown_parameter"],
    [{ stream_options: { foo: true }, stream: true }, "stream_options.foo", "unknown_parameter"],
    [{ messages: undefined }, "messages", "invalid_value"],
    [{ messages: [] }, "messages", "invalid_value"],
    [{ messages: "hello" }, "messages", "invalid_type"],
    [{ messages: [{ role: "user" }] }, "messages[0].content", "invalid_value"],
    [{ messages: [{ role: "user", content: 5 }] }, "messages[0].content", "invalid_value"],
    [{ messages: [{ role: "robot", content: "a" }] }, "messages[0].role", "invalid_value"],
    [{ messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] }, "messages[0].content[0].type", "invalid_value"],
    [{ messages: [...HELLO, { role: "assistant", content: "Hi" }] }, "messages", "invalid_value"],
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
    [{ n: 2 }, "n", "invalid_value"],
    [{ top_logprobs: 2 }, "top_logprobs", "invalid_value"],
    [{ logprobs: true, top_logprobs: 21 }, "top_logprobs", "invalid_value"],
    [{ stream_options: { include_usage: true } }, "stream_options", "invalid_value"],
    [{ tools: [{ type: "function" }] }, "tools", "invalid_value"],
    [{ response_format: { type: "json_object" } }, "response_format.type", "invalid_value"],
    [{ presence_penalty: 1 }, "presence_penalty", "invalid_value"],
    [{ documents: [] }, "documents", "invalid_value"],
    [{ documents: [{ title: "a" }] }, "documents[0].text", "missing_required_parameter"],
    [{ documents: ["a"], corpus: true }, "documents", "invalid_value"],
    [{ top_k: 3 }, "top_k", "invalid_value"],
    [{ corpus: true, top_k: 0 }, "top_k", "invalid_value"],
    [{ schema: "support" }, "prompt", "invalid_value"],
    [{ schema: "support", prompt: "<prompt/>" }, "messages", "invalid_value"],
    [{ prompt: "<prompt/>" }, "schema", "invalid_value"],
  ])("%# of %j is refused by its name", async (fields, param, code) => {
    const refusal = await chat(fields);
    expect(refusal.status).toBe(400);
    expectRefusal(refusal, { param, code });
  });

  test("that OpenAI has and that changes no answer is passed over", async () => {
    const fields = { user: "u", metadata: { a: "b" }, store: false, service_tier: "auto", parallel_tool_calls: true, presence_penalty: 0, logit_bias: {}, tools: [], response_format: { type: "text" }, temperature: null, stop: null };
    const response = await fetch(`${serving.url}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: model.name, messages: HELLO, max_tokens: 1, ...fields }) });
    expect(response.status).toBe(200);
  });
});

describe("what is not there", () => {
  test.each<[object, string, RegExp]>([
    [{ model: "gpt-4o" }, "model_not_found", /kvsplice-135m/],
    [{ corpus: "others" }, "corpus_not_found", /'articles'/],
    [{ documents: ["nothing.md#1"] }, "document_not_found", /nothing\.md#1/],
    [{ documents: ["../../etc/passwd"] }, "document_not_found", /no document/],
    [{ messages: [], schema: "none", prompt: "<prompt/>" }, "schema_not_found", /'support'/],
    [{ messages: [], schema: "../review/schema.pml", prompt: "<prompt/>" }, "schema_not_found", /'support'/],
  ])("%# is told with 404: %j", async (fields, code, message) => {
    const refusal = await chat(fields);
    expect(refusal.status).toBe(404);
    expectRefusal(refusal, { code, message });
  });

  test.each(["/v1/nothing", "/v1/chat", "/../../etc/passwd", "/v1/models/gpt-4o"])("%s is 404", async (path) => {
    const response = await fetch(serving.url + path);
    expect(response.status).toBe(404);
    expectRefusal({ status: 404, headers: response.headers, ...((await response.json()) as Pick<Refusal, "error">) }, {});
  });

  test("a prompt with errors is told with its line, and without the schema's path", async () => {
    const refusal = await chat({ messages: [], schema: "support", prompt: '<prompt schema="support">\n  <kettel/>Question\n</prompt>' });
    expect(refusal.status).toBe(400);
    expectRefusal(refusal, { param: "prompt", code: "bad_markup", message: /^line 2, column 4: no module `kettel`.*kettle/ });
  });
});

describe("what is too much", () => {
  test("a message and an answer beyond the context are refused, with the counts", async () => {
    const long = [{ role: "user", content: "word ".repeat(2000) }];
    for (const refusal of [await chat({ messages: long }), await chat({ messages: long, corpus: true })]) {
      expect(refusal.status).toBe(400);
      expectRefusal(refusal, { code: "context_length_exceeded", message: /holds 1024 tokens/ });
    }
  });

  test("more answers than the queue holds are refused with 429 and Retry-After, and those before them are given", async () => {
    const many = await Promise.all(Array.from({ length: 8 }, () => fetch(`${serving.url}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: model.name, messages: HELLO, max_tokens: 2 }) })));
    const refused = many.filter(({ status }) => status === 429);
    expect(many.filter(({ status }) => status === 200).length).toBe(many.length - refused.length);
    expect(refused.length).toBeGreaterThan(0);
    for (const response of refused) {
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
      expectRefusal({ status: 429, headers: response.headers, ...((await response.json()) as Pick<Refusal, "error">) }, { type: "rate_limit_error", code: "queue_full" });
    }
  });

  test("a client that never ends its headers is let go, with 408", async () => {
    const slow = await rawRequest("POST /v1/chat/completions HTTP/1.1\r\nhost: local");
    expect(await received(slow)).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("thousands of connections that say nothing keep nobody out", async () => {
    const idle = await Promise.all(Array.from({ length: 2_000 }, () => rawRequest("POST /v1/chat/completions HTTP/1.1\r\nhost: local")));
    expect((await fetch(`${serving.url}/healthz`)).status).toBe(200);
    for (const socket of idle) socket.destroy();
  });
});

describe("what is no HTTP", () => {
  test.each([
    ["nonsense\r\n\r\n", 400],
    ["GET / HTTP/1.1\r\n\r\n", 400],
    ["GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n", 400],
    [`GET / HTTP/1.1\r\nhost: localhost\r\nx: ${"a".repeat(100_000)}\r\n\r\n`, 431],
    ["POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n", 400],
  ])("%# gets its status, and the server lives", async (request, status) => {
    expect(await received(await rawRequest(request))).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect((await fetch(`${serving.url}/healthz`)).status).toBe(200);
  });
});

describe("a host", () => {
  test("of another name is refused where no key is asked for: it may be a page whose name points here", async () => {
    const answer = await received(await rawRequest("GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"));
    expect(answer).toMatch(/^HTTP\/1\.1 403 [\s\S]*host_not_allowed/);
  });
});

describe("a key", () => {
  let guarded: Serving;
  beforeAll(async () => {
    guarded = await startServing({ model, embedder, folder: serving.folder + "-guarded", apiKeys: ["first key", "second"] });
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
      expectRefusal({ status: 401, headers: response.headers, ...((await response.json()) as Pick<Refusal, "error">) }, { type: "authentication_error", code });
    }
  });

  test.each(["first key", "second"])("%j opens", async (key) => {
    const response = await fetch(`${guarded.url}/v1/models`, { headers: { authorization: `Bearer ${key}`, host: "any.example" } });
    expect(response.status).toBe(200);
  });

  test("is nowhere in the log", () => {
    expect(JSON.stringify(guarded.logged)).not.toMatch(/first key|Bearer/);
  });

  test("is demanded of a server that others can reach", async () => {
    await expect(startServing({ model, embedder, folder: serving.folder + "-open", host: "0.0.0.0" })).rejects.toMatchObject({ code: "bad_argument", message: expect.stringContaining("KVSPLICE_API_KEY") });
    remove(serving.folder + "-open");
  });
});

/** Bytes as they are, on a connection of their own. */
async function rawRequest(bytes: string): Promise<Socket> {
  const { port, hostname } = new URL(serving.url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.write(bytes);
  return socket;
}

/** Everything that comes until the server closes. */
async function received(socket: Socket): Promise<string> {
  const parts: Buffer[] = [];
  socket.on("data", (part: Buffer) => parts.push(part));
  await new Promise((resolve) => socket.once("close", resolve));
  return Buffer.concat(parts).toString();
}


test.each([false, true])("an answer that takes longer than the server allows ends with 504, and gives its place back (stream: %s)", async (stream) => {
  const brief = await startServing({ model, embedder, limits: { request_ms: 1 } });
  try {
    const response = await fetch(`${brief.url}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: model.name, messages: HELLO, stream }) });
    expect([response.status, await response.json()]).toMatchObject([504, { error: { code: "timeout", message: expect.stringMatching(/longer than the 0.001 s .* fewer tokens/) } }]);
    expect(model.activity).toEqual({ running: 0, queued: 0 });
  } finally {
    await brief.stop();
    remove(brief.folder);
  }
});
