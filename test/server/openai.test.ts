import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { loadModel, type Model } from "../../engine/index.js";
import { type Embedder, loadEmbedder } from "../../rag/index.js";
import { remove, type Serving, startServing } from "../support/server/serving.js";

/** OpenAI's client, unchanged. kvsplice's fields are added to the body. */
type Params = OpenAI.ChatCompletionCreateParamsNonStreaming;
type Fields = { readonly [name in keyof Params]?: Params[name] | undefined } & Record<string, unknown>;
type Extended = OpenAI.ChatCompletion & { readonly kvsplice: Readonly<Record<string, number>> & { readonly sources: readonly Source[] } };
type Source = { readonly ref?: string; readonly title: string; readonly text: string; readonly score?: number; readonly url?: string };

let model: Model;
let embedder: Embedder;
let serving: Serving;
let client: OpenAI;

beforeAll(async () => {
  [model, embedder] = await Promise.all([loadModel(), loadEmbedder()]);
  serving = await startServing({ model, embedder, schemasDir: fileURLToPath(new URL("../../examples/pml", import.meta.url)) });
  ({ client } = serving);
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
  await embedder.close();
  await model.close();
});

const KEEPER = [{ role: "user" as const, content: "Who was the first keeper of the lighthouse on Brenna Point?" }];
const GREETING = [{ role: "user" as const, content: "Say hello to the sailors." }];

const create = (fields: Fields) =>
  client.chat.completions.create({
    model: model.name,
    messages: GREETING,
    max_tokens: 12,
    ...fields,
  } as Params) as Promise<unknown> as Promise<Extended>;
const textOf = (completion: OpenAI.ChatCompletion) => completion.choices[0]!.message.content!;

describe("a chat", () => {
  test("is answered in OpenAI's format, with token counts", async () => {
    const completion = await create({});
    expect(completion).toMatchObject({ object: "chat.completion", model: model.name, id: expect.stringMatching(/^chatcmpl-/) });
    expect(completion.choices).toHaveLength(1);
    expect(completion.choices[0]).toMatchObject({
      index: 0,
      finish_reason: expect.stringMatching(/^(stop|length)$/),
      logprobs: null,
      message: { role: "assistant", refusal: null },
    });
    const { prompt_tokens, completion_tokens, total_tokens } = completion.usage!;
    expect(completion_tokens).toBeLessThanOrEqual(12);
    expect(total_tokens).toBe(prompt_tokens + completion_tokens);
    const { tokenizer, chat } = model;
    const frame = chat.frame("user", undefined);
    expect(prompt_tokens).toBe(
      tokenizer.encode(frame.open + GREETING[0]!.content + frame.close + chat.generationPrompt, { control: true }).length,
    );
  });

  test("streams the same answer, with its usage last", async () => {
    const whole = await create({ stop: ["."] });
    const stream = await client.chat.completions.create({
      model: model.name,
      messages: GREETING,
      max_tokens: 12,
      stop: ["."],
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
      text += chunk.choices[0]?.delta.content ?? "";
    }
    expect(text).toBe(textOf(whole));
    expect(chunks[0]!.choices[0]!.delta).toMatchObject({ role: "assistant" });
    expect(chunks.at(-2)!.choices[0]).toMatchObject({ delta: {}, finish_reason: whole.choices[0]!.finish_reason });
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { completion_tokens: whole.usage!.completion_tokens, prompt_tokens: whole.usage!.prompt_tokens },
    });
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
  });

  test("has no usage in its stream unless requested", async () => {
    const stream = await client.chat.completions.create({ model: model.name, messages: GREETING, max_tokens: 2, stream: true });
    for await (const chunk of stream) expect(chunk.usage).toBeUndefined();
  });

  test.each(["max_tokens", "max_completion_tokens"])("ends at %s, and says so", async (field) => {
    const completion = await create({ max_tokens: undefined, [field]: 3 });
    expect(completion.usage!.completion_tokens).toBe(3);
    expect(completion.choices[0]!.finish_reason).toBe("length");
  });

  test("ends before a stop text", async () => {
    const whole = textOf(await create({}));
    const stop = whole.slice(4, 7);
    for (const form of [stop, ["never said", stop]]) {
      const stopped = await create({ stop: form });
      expect(textOf(stopped)).toBe(whole.slice(0, whole.indexOf(stop)));
      expect(stopped.choices[0]!.finish_reason).toBe("stop");
    }
  });

  test("is the same for equal seeds; with temperature 0, or a top_p that leaves one token, it is the likeliest", async () => {
    const warm = { temperature: 1.5, top_p: 0.95, max_tokens: 8 };
    const [first, second] = [await create({ ...warm, seed: 5 }), await create({ ...warm, seed: 5 })];
    expect(textOf(first)).toBe(textOf(second));
    const others = new Set<string>();
    for (const seed of [1, 2, 3, 4]) others.add(textOf(await create({ ...warm, seed })));
    expect(others.size).toBeGreaterThan(1);
    const likeliest = textOf(await create({ temperature: 0 }));
    expect(textOf(await create({}))).toBe(likeliest);
    expect(textOf(await create({ temperature: 1.5, top_p: 1e-9 }))).toBe(likeliest);
  });

  test("gives log probabilities with the requested number of alternatives, as a whole and streamed", async () => {
    const completion = await create({ logprobs: true, top_logprobs: 3, max_tokens: 4 });
    const { content } = completion.choices[0]!.logprobs!;
    expect(content).toHaveLength(completion.usage!.completion_tokens);
    expect(content!.map(({ token }) => token).join("")).toBe(textOf(completion));
    for (const { token, logprob, bytes, top_logprobs } of content!) {
      expect(bytes).toEqual([...Buffer.from(token)]);
      expect(top_logprobs).toHaveLength(3);
      expect(top_logprobs[0]).toMatchObject({ token, logprob });
      expect(logprob).toBeLessThanOrEqual(0);
    }
    const stream = await client.chat.completions.create({
      model: model.name,
      messages: GREETING,
      max_tokens: 4,
      logprobs: true,
      top_logprobs: 3,
      stream: true,
    });
    const streamed: object[] = [];
    for await (const chunk of stream) streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    expect(streamed).toEqual(content);
    expect((await create({ logprobs: true, max_tokens: 1 })).choices[0]!.logprobs!.content![0]!.top_logprobs).toEqual([]);
  });

  test("accepts messages in parts, and treats developer as system", async () => {
    const whole = await create({ messages: [{ role: "system", content: "You are a pirate." }, ...GREETING] });
    const parts = await create({
      messages: [
        {
          role: "developer",
          content: [
            { type: "text", text: "You are " },
            { type: "text", text: "a pirate." },
          ],
        },
        { role: "user", content: [{ type: "text", text: GREETING[0]!.content }] },
      ],
    });
    expect(textOf(parts)).toBe(textOf(whole));
    expect(parts.usage!.prompt_tokens).toBe(whole.usage!.prompt_tokens);
  });
});

describe("an answer over the corpus", () => {
  test("is the same as the corpus's, with its sources, as a whole and streamed", async () => {
    const completion = await create({ messages: KEEPER, corpus: { documents: 2 }, max_tokens: undefined });
    expect(textOf(completion)).toMatch(/Oda Halvorsen/);
    const answer = await serving.service.corpus.ask(KEEPER[0]!.content, { topK: 2 });
    let own = "";
    for await (const { text } of answer) own += text;
    expect(textOf(completion)).toBe(own);
    const { sources } = completion.kvsplice;
    expect(sources).toHaveLength(2);
    expect(sources[0]).toMatchObject({
      ref: "lighthouse.md#1",
      title: "Brenna Point",
      text: expect.stringContaining("Halvorsen"),
      score: expect.any(Number),
    });
    expect(JSON.stringify(completion)).not.toContain(serving.folder);

    const stream = await client.chat.completions.create({
      model: model.name,
      messages: KEEPER,
      stream: true,
      corpus: { name: "articles", documents: 2 },
    } as unknown as OpenAI.ChatCompletionCreateParamsStreaming);
    let streamed = "";
    const told: object[] = [];
    for await (const chunk of stream) {
      streamed += chunk.choices[0]?.delta.content ?? "";
      told.push((chunk as unknown as { kvsplice?: object }).kvsplice ?? {});
    }
    expect(streamed).toBe(own);
    expect(told[0]).toEqual({ sources });
  });

  test("computes only the question: the documents' tokens are cached", async () => {
    const completion = await create({ messages: KEEPER, corpus: { documents: 3 } });
    const { prompt_tokens, prompt_tokens_details } = completion.usage!;
    const sources = await serving.service.corpus.retrieve(KEEPER[0]!.content, { topK: 3 });
    const system = model.tokenizer.encode(model.card.prompt.system, { control: true }).length;
    const cached = system + sources.reduce((sum, { tokens }) => sum + tokens.length, 0);
    expect(prompt_tokens_details!.cached_tokens).toBe(cached);
    expect(completion.kvsplice["computed_tokens"]).toBe(prompt_tokens - cached);
  });

  test("adds link tokens after each document", async () => {
    // Not asked elsewhere: earlier questions over the same documents are stored.
    const messages = [{ role: "user" as const, content: "For how many years was a diary kept at Brenna Point?" }];
    const computed = async (link_tokens: number) =>
      (await create({ messages, corpus: { documents: 2 }, link_tokens })).kvsplice["computed_tokens"]!;
    expect(await computed(3)).toBe((await computed(0)) + 6);
    await expect(create({ messages, corpus: true, link_tokens: 99 })).rejects.toMatchObject({ status: 400 });
  });
});

test("an answer over documents of the corpus, named by ref, encodes nothing", async () => {
  const completion = await create({
    messages: [{ role: "user", content: "How many cars does the ferry carry?" }],
    documents: ["ferry.txt", "lighthouse.md#1"],
  });
  expect(textOf(completion)).toMatch(/six/i);
  expect(completion.kvsplice.sources.map(({ ref }) => ref)).toEqual(["ferry.txt#1", "lighthouse.md#1"]);
  expect(completion.kvsplice["encoded_tokens"]).toBe(0);
});

describe("an answer over given texts", () => {
  const documents = [
    { title: "Kettle", text: "The Brindle kettle boils a litre of water in ninety seconds." },
    { title: "Lamp", text: "The Cowrie lamp has a cork base. Its bulb lasts twenty years." },
  ];
  const question = [{ role: "user" as const, content: "How long does the bulb of the Cowrie lamp last?" }];

  test("encodes them once", async () => {
    const first = await create({ messages: question, documents });
    expect(textOf(first)).toMatch(/twenty years/i);
    expect(first.kvsplice["encoded_tokens"]).toBeGreaterThan(20);
    expect(first.kvsplice.sources).toEqual(documents);
    const second = await create({ messages: question, documents: [...documents].reverse() });
    expect(second.kvsplice["encoded_tokens"]).toBe(0);
    expect(second.usage!.prompt_tokens).toBe(first.usage!.prompt_tokens);
  });

  test("continues as a conversation, which only computes the next question", async () => {
    const first = await create({ messages: question, documents });
    const messages = [...question, first.choices[0]!.message, { role: "user" as const, content: "What is its base made of?" }];
    const second = await create({ messages, documents });
    expect(textOf(second)).toMatch(/cork/i);
    expect(second.usage!.prompt_tokens_details!.cached_tokens).toBe(first.usage!.total_tokens);
  });

  test("reads all of a long text, in chunks", async () => {
    const filler = Array.from({ length: 30 }, (_, i) => `Shelf ${i} of the store room holds ${i + 3} boxes of nails.`).join("\n\n");
    const completion = await create({
      messages: [{ role: "user", content: "What is the code of the safe?" }],
      documents: [{ title: "Store room", text: `${filler}\n\nThe code of the safe is 7319.` }],
    });
    expect(completion.usage!.prompt_tokens).toBeGreaterThan(model.tokenizer.encode(filler).length);
  });

  test("uses a system message instead of the card's", async () => {
    const plain = await create({ messages: question, documents });
    const told = await create({
      messages: [{ role: "system", content: "Answer briefly from the given documents." }, ...question],
      documents,
    });
    expect(told.usage!.prompt_tokens).not.toBe(plain.usage!.prompt_tokens);
    expect(textOf(told)).toMatch(/twenty years/i);
  });
});

test("a schema's prompt is answered from its modules' KV", async () => {
  const ask = () =>
    create({
      messages: [],
      max_tokens: undefined,
      schema: "support",
      prompt: '<prompt schema="support"><kettle/><router/><returns/>Question: What does an orange ring on the Nettle router mean?</prompt>',
    });
  const [first, second] = [await ask(), await ask()];
  expect(textOf(second)).toBe(textOf(first));
  expect(second.kvsplice["encoded_tokens"]).toBe(0);
  expect(second.usage!.prompt_tokens_details!.cached_tokens).toBeGreaterThan(200);
});

test("a schema's modules are linked if the request says so", async () => {
  const ask = (fields: object) =>
    create({
      messages: [],
      max_tokens: 1,
      schema: "support",
      prompt: '<prompt schema="support"><kettle/>Question: What is it?</prompt>',
      ...fields,
    });
  const [plain, linked] = [await ask({}), await ask({ link: "0.5" })];
  expect(plain.kvsplice["recomputed_tokens"]).toBe(0);
  expect(linked.kvsplice["recomputed_tokens"]).toBeGreaterThan(50);
});

test("a schema's prompt reads documents of the corpus by ref", async () => {
  const ask = (ref: string) =>
    create({
      messages: [],
      max_tokens: undefined,
      schema: "support",
      prompt: `<prompt schema="support"><document ref="${ref}"/>Question: For how many years did the keeper keep a diary?</prompt>`,
    });
  const { usage, kvsplice } = await ask("lighthouse.md#1");
  expect(kvsplice["encoded_tokens"]).toBe(0);
  expect(usage!.prompt_tokens_details!.cached_tokens).toBeGreaterThan(40);
  await expect(ask("lightship.md#1")).rejects.toMatchObject({
    status: 400,
    code: "bad_markup",
    message: expect.stringContaining("lightship.md#1"),
  });
});

describe("models", () => {
  test("are listed, and found by name", async () => {
    const ids: string[] = [];
    for await (const { id } of client.models.list()) ids.push(id);
    expect(ids).toEqual([model.name, `${model.name}/articles`]);
    expect(await client.models.retrieve(ids[1]!)).toMatchObject({ id: ids[1] });
    expect(await client.models.retrieve("all-MiniLM-L6-v2")).toMatchObject({ id: "all-MiniLM-L6-v2" });
    expect(await client.models.retrieve(ids[0]!)).toMatchObject({ id: model.name, object: "model", owned_by: "kvsplice" });
    await expect(client.models.retrieve("gpt-4o")).rejects.toMatchObject({ status: 404, code: "model_not_found" });
  });
});

describe("embeddings", () => {
  const texts = ["The keeper of the lighthouse", "Sourdough rises by wild yeast"];

  test("are the embedder's vectors, in the client's default format and as numbers", async () => {
    const expected = await embedder.embed(texts);
    for (const encoding_format of [undefined, "float", "base64"] as const) {
      const { data, usage } = await client.embeddings.create({
        model: "all-MiniLM-L6-v2",
        input: texts,
        ...(encoding_format && { encoding_format }),
      });
      expect(data.map(({ index }) => index)).toEqual([0, 1]);
      const vectors = data.map(({ embedding }) =>
        typeof embedding === "string" ? [...new Float32Array(Uint8Array.from(Buffer.from(embedding, "base64")).buffer)] : embedding,
      );
      vectors.forEach((vector, i) => expect(vector).toEqual([...expected[i]!]));
      expect(usage.prompt_tokens).toBe(await embedder.countTokens(texts));
    }
  });

  test("are refused for input or dimensions that the embedder does not support", async () => {
    const embed = (fields: object) =>
      client.embeddings.create({ model: "all-MiniLM-L6-v2", input: "a", ...fields } as OpenAI.EmbeddingCreateParams);
    await expect(embed({ input: [1, 2, 3] })).rejects.toMatchObject({ status: 400 });
    await expect(embed({ input: "" })).rejects.toMatchObject({ status: 400 });
    await expect(embed({ input: [] })).rejects.toMatchObject({ status: 400 });
    await expect(embed({ dimensions: 100 })).rejects.toMatchObject({ status: 400, param: "dimensions" });
    await expect(embed({ model: model.name })).rejects.toMatchObject({ status: 404 });
    expect((await embed({ dimensions: 384 })).data).toHaveLength(1);
  });
});

test("concurrent answers equal sequential ones, token for token", async () => {
  const questions = [
    KEEPER[0]!.content,
    "How long does the ferry at Dollis take?",
    "How does sourdough rise?",
    "How many cars does the ferry carry?",
    "What did Oda Halvorsen keep?",
    "When was the lighthouse lit?",
  ];
  const ask = (content: string) =>
    create({ messages: [{ role: "user", content }], corpus: { documents: 3 }, max_tokens: 24, logprobs: true });
  const tokensOf = (completion: Extended) => completion.choices[0]!.logprobs!.content!.map(({ token }) => token);
  const alone: string[][] = [];
  for (const question of questions) alone.push(tokensOf(await ask(question)));
  const together = await Promise.all(questions.map(ask));
  expect(together.map(tokensOf)).toEqual(alone);
});

describe("a client that disconnects", () => {
  test.each([true, false])("frees its place at once (stream: %s)", async (stream) => {
    // An answer that never ends by itself on any processor: the tokens that would end it are excluded.
    const logit_bias = Object.fromEntries([...model.endTokens].map((token) => [token, -100]));
    const long = { model: model.name, messages: GREETING, max_tokens: 2_000, logit_bias };
    const before = (await metric("kvsplice_hang_ups_total"))!;
    const hangUp = new AbortController();
    const answer = client.chat.completions.create({ ...long, stream }, { signal: hangUp.signal });
    if (stream) for await (const _ of (await answer) as AsyncIterable<unknown>) break;
    else {
      answer.catch(() => undefined);
      await vi.waitUntil(() => model.activity.running === 1, { timeout: 100_000 });
      hangUp.abort();
      await expect(answer).rejects.toThrow();
    }
    // The whole answer takes a minute.
    await vi.waitUntil(async () => (await metric("kvsplice_hang_ups_total")) === before + 1, { timeout: 100_000, interval: 10 });
    expect(serving.service.waiting.size).toBe(0);
    expect(model.activity).toMatchObject({ running: 0, queued: 0 });
  });
});

/** The value of one line of `/metrics`. */
async function metric(name: string): Promise<number | undefined> {
  const text = await (await fetch(`${serving.url}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}

describe("monitoring", () => {
  test("metrics count tokens by their source, times, and the queue", async () => {
    const before = (await metric('kvsplice_prompt_tokens_total{source="cached"}'))!;
    const answers = (await metric("kvsplice_time_to_first_token_seconds_count"))!;
    const { usage } = await create({ messages: KEEPER, corpus: { documents: 2 } });
    expect(await metric('kvsplice_prompt_tokens_total{source="cached"}')).toBe(before + usage!.prompt_tokens_details!.cached_tokens!);
    expect(await metric("kvsplice_time_to_first_token_seconds_count")).toBe(answers + 1);
    for (const name of ["kvsplice_waiting_answers", "kvsplice_queued_answers", "kvsplice_batch_size"])
      expect(await metric(name), name).toBe(0);
    for (const name of [
      "kvsplice_time_per_output_token_seconds_count",
      "kvsplice_answer_tokens_total",
      "kvsplice_cached_share_count",
      'kvsplice_block_reads_total{tier="memory"}',
      'kvsplice_store_bytes{tier="disk"}',
      'kvsplice_requests_total{route="/v1/chat/completions",status="200"}',
    ]) {
      expect(await metric(name), name).toBeGreaterThan(0);
    }
  });

  test("health is reported without a key", async () => {
    expect(await (await fetch(`${serving.url}/healthz`)).json()).toEqual({
      status: "ok",
      model: model.name,
      corpus: "articles",
      chunks: 3,
      waiting: 0,
      running: 0,
    });
  });

  test("the log has a line for each request with the client's id, and no content of messages", async () => {
    const { request_id } = await client.chat.completions
      .create({ model: model.name, messages: [{ role: "user", content: "Quinquireme" }], max_tokens: 1 })
      .withResponse();
    expect(serving.logged).toContainEqual(
      expect.objectContaining({ request: request_id, method: "POST", path: "/v1/chat/completions", status: 200, ms: expect.any(Number) }),
    );
    expect(serving.logged).toContainEqual(
      expect.objectContaining({ request: request_id, msg: "answer", answer_tokens: 1, finish: "length" }),
    );
    expect(JSON.stringify(serving.logged)).not.toContain("Quinquireme");
  });
});

describe("answers constrained by schemas", () => {
  test("of sixteen concurrent users, half with their own schemas, are the same as one at a time, and validate", async () => {
    const schemaOf = (i: number) => ({
      type: "object",
      properties: { lamp: { enum: ["red", `green ${i}`, "white"] } },
      required: ["lamp"],
      additionalProperties: false,
    });
    const asked = Array.from(
      { length: 16 },
      (_, i): Fields => ({
        messages: [{ role: "user", content: `Describe lamp ${i} of the pier.` }],
        temperature: i % 4 === 1 ? 1 : 0,
        seed: i,
        ...(i % 2 === 1
          ? { response_format: { type: "json_schema", json_schema: { name: "lamp", strict: true, schema: schemaOf(i) } } }
          : { max_tokens: 4 }),
        cache_prompt: false,
      }),
    );
    const alone: string[] = [];
    for (const fields of asked) alone.push(textOf(await create(fields)));
    const together = await Promise.all(asked.map(create));
    expect(together.map(textOf)).toEqual(alone);
    for (const [i, text] of alone.entries())
      if (i % 2 === 1) expect(new Ajv2020().validate(schemaOf(i), JSON.parse(text)), text).toBe(true);
  });
});
