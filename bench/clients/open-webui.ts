/**
 * Open WebUI itself, connected to kvsplice's server: what it lists, asks and answers, and what its side tasks cost.
 *
 *     python3 -m venv webui && webui/bin/pip install open-webui
 *     npx tsx bench/clients/open-webui.ts webui/bin/open-webui
 *
 * It needs Python 3.11 or 3.12, and 2 GB. It runs without accounts and without a network, in a folder that is deleted afterwards.
 */
import { strict as assert } from "node:assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import { HELLO, isAnswered, isText, QUESTION } from "./client.js";
import { startServer } from "./server.js";

/** It first loads some hundred packages. */
const START_ms = 300_000;

type Completion = {
  readonly choices: readonly [
    {
      readonly message: {
        readonly content: string;
        readonly annotations?: readonly { readonly url_citation: { readonly title: string } }[];
      };
    },
  ];
  readonly usage: { readonly prompt_tokens: number };
};

const [program] = process.argv.slice(2);
if (program === undefined) throw new Error("Name the program open-webui, in the bin folder of its environment.");
const kvsplice = await startServer();
const folder = mkdtempSync(join(tmpdir(), "kvsplice-webui-"));
const port = await freePort();
const api = { baseURL: `${kvsplice.url}/v1`, key: "none" };
const settings = {
  DATA_DIR: folder,
  WEBUI_AUTH: "False",
  WEBUI_SECRET_KEY: "none",
  OFFLINE_MODE: "True",
  HF_HUB_OFFLINE: "1",
  ENABLE_OLLAMA_API: "False",
  OPENAI_API_BASE_URL: api.baseURL,
  OPENAI_API_KEY: api.key,
  RAG_EMBEDDING_ENGINE: "openai",
  RAG_EMBEDDING_MODEL: "all-MiniLM-L6-v2",
  RAG_OPENAI_API_BASE_URL: api.baseURL,
  RAG_OPENAI_API_KEY: api.key,
};
const webui = spawn(resolve(program), ["serve", "--host", "127.0.0.1", "--port", String(port)], {
  env: { ...process.env, ...settings },
  cwd: folder,
  stdio: "ignore",
});
const url = `http://127.0.0.1:${port}`;
const headers: Record<string, string> = { "content-type": "application/json" };
const post = (path: string, body: object) => fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
async function json<T>(response: Promise<Response>): Promise<T> {
  const { ok, status, url } = await response;
  const text = await (await response).text();
  assert.ok(ok, `${url} answered ${status}: ${text.slice(0, 300)}`);
  return JSON.parse(text) as T;
}

const { model, corpusModel } = kvsplice;
const asked = (content: string) => [{ role: "user", content }];
const chat = (model: string, content: string) =>
  json<Completion>(post("/api/chat/completions", { model, messages: asked(content), stream: false }));
const features: Readonly<Record<string, () => Promise<void>>> = {
  async "models, with the corpus"() {
    const { data } = await json<{ data: { id: string }[] }>(fetch(`${url}/api/models`, { headers }));
    for (const id of [model, corpusModel])
      assert.ok(
        data.some((each) => each.id === id),
        `${id} is not among ${data.map((each) => each.id).join(", ")}`,
      );
  },
  chat: async () => isText((await chat(model, HELLO)).choices[0].message.content),
  async stream() {
    const text = await (await post("/api/chat/completions", { model, messages: asked(HELLO), stream: true })).text();
    const chunks = text.split("\n").filter((line) => line.startsWith("data: {"));
    isText(
      chunks
        .map(
          (line) =>
            (JSON.parse(line.slice("data: ".length)) as { choices?: { delta?: { content?: string } }[] }).choices?.[0]?.delta?.content ??
            "",
        )
        .join(""),
    );
  },
  "over a corpus": async () => isAnswered((await chat(corpusModel, QUESTION)).choices[0].message.content),
  sources: async () =>
    assert.equal((await chat(corpusModel, QUESTION)).choices[0].message.annotations?.[0]?.url_citation.title, "Forth Bridge"),
  async "a title and tags, which cost no documents"() {
    for (const task of ["title", "tags"]) {
      const {
        choices: [{ message }],
      } = await json<Completion>(
        post(`/api/v1/tasks/${task}/completions`, {
          model: corpusModel,
          messages: [...asked(QUESTION), { role: "assistant", content: "John Fowler and Benjamin Baker." }],
        }),
      );
      assert.equal(message.annotations, undefined);
    }
  },
  async "embeddings, for its own knowledge"() {
    const content = "The lamp of the pier is green.";
    await json(post("/api/v1/retrieval/process/text", { name: "lamp", content, collection_name: "notes" }));
    const { documents } = await json<{ documents: string[][] }>(
      post("/api/v1/retrieval/query/collection", { collection_names: ["notes"], query: "What colour is the lamp?", k: 1 }),
    );
    assert.deepEqual(documents, [[content]]);
  },
};

let failed = 0;
try {
  await answering();
  const { token } = await json<{ token: string }>(post("/api/v1/auths/signin", { email: "", password: "" }));
  headers["authorization"] = `Bearer ${token}`;
  const { version } = await json<{ version: string }>(fetch(`${url}/api/version`));
  console.log(`Open WebUI ${version}`);
  for (const [name, attempt] of Object.entries(features)) {
    const problem = await attempt().then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (problem !== undefined) failed++;
    console.log(`${name}: ${problem === undefined ? "yes" : `no, ${problem}`}`);
  }
} finally {
  webui.kill("SIGTERM");
  if (webui.exitCode === null) await once(webui, "exit");
  await kvsplice.stop();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(failed > 0 ? 1 : 0);

async function answering(): Promise<void> {
  for (const end = performance.now() + START_ms; performance.now() < end; await setTimeout(1_000)) {
    if (webui.exitCode !== null) throw new Error(`open-webui ended with ${webui.exitCode}.`);
    if (
      await fetch(`${url}/health`).then(
        ({ ok }) => ok,
        () => false,
      )
    )
      return;
  }
  throw new Error("open-webui did not answer.");
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
