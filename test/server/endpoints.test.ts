import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fakeEmbedder } from "../support/rag/fakes.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

let serving: Serving;
let client: OpenAI;
beforeAll(async () => {
  serving = await startFakeServing({ limits: { contextTokens: 1024 } });
  ({ client } = serving);
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
});

async function post(path: string, body: object): Promise<{ status: number; body: any }> {
  const response = await fetch(serving.url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

describe("completions", () => {
  const complete = (fields: object) =>
    client.completions.create({
      model: "default",
      prompt: "Once upon a time",
      max_tokens: 6,
      ...fields,
    } as OpenAI.CompletionCreateParamsNonStreaming);

  test("continue a text unchanged: a text with its first continuation is followed by the rest", async () => {
    const whole = await complete({});
    expect(whole).toMatchObject({
      object: "text_completion",
      id: expect.stringMatching(/^cmpl-/),
      choices: [{ index: 0, logprobs: null, finish_reason: "length" }],
    });
    const words = whole.choices[0]!.text.split(/(?= )/);
    const rest = await complete({ prompt: `Once upon a time${words.slice(0, 2).join("")}`, max_tokens: 4 });
    expect(rest.choices[0]!.text).toBe(words.slice(2).join(""));
    expect(whole.usage).toMatchObject({
      prompt_tokens: serving.service.model.tokenizer.encode("Once upon a time").length,
      completion_tokens: 6,
    });
    expect((await complete({ max_tokens: undefined })).usage!.completion_tokens).toBe(16);
  });

  test("take several prompts, as texts or token ids, and give n answers to each", async () => {
    const { tokenizer } = serving.service.model;
    const texts = ["Once upon a time", "The sea"];
    const alone = [(await complete({})).choices[0]!.text, (await complete({ prompt: "The sea" })).choices[0]!.text];
    expect((await complete({ prompt: texts })).choices.map(({ text, index }) => [index, text])).toEqual([
      [0, alone[0]],
      [1, alone[1]],
    ]);
    const ids = texts.map((text) => tokenizer.encode(text));
    expect((await complete({ prompt: ids })).choices.map(({ text }) => text)).toEqual(alone);
    expect((await complete({ prompt: ids[1] })).choices.map(({ text }) => text)).toEqual([alone[1]]);
    expect((await complete({ prompt: texts, n: 2 })).choices.map(({ text }) => text)).toEqual([alone[0], alone[0], alone[1], alone[1]]);
  });

  test("stream the same, and echo the prompt if requested", async () => {
    const whole = await complete({ echo: true });
    expect(whole.choices[0]!.text).toMatch(/^Once upon a time /);
    const stream = await client.completions.create({
      model: "default",
      prompt: "Once upon a time",
      max_tokens: 6,
      echo: true,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage: object | null | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      ({ usage } = chunk);
    }
    expect(text).toBe(whole.choices[0]!.text);
    expect(usage).toMatchObject({ completion_tokens: 6 });
  });

  test("give log probabilities in their own format", async () => {
    const { choices } = await complete({ logprobs: 2, max_tokens: 3 });
    const { text, logprobs } = choices[0]!;
    expect(logprobs!.tokens!.join("")).toBe(text);
    expect(logprobs!.text_offset).toEqual(logprobs!.tokens!.map((_, i) => logprobs!.tokens!.slice(0, i).join("").length));
    logprobs!.top_logprobs!.forEach((top, i) => expect(top[logprobs!.tokens![i]!]).toBe(logprobs!.token_logprobs![i]));
  });

  test("with best_of are those whose tokens are likeliest on average", async () => {
    // The two tokens are sampled equally often, but the model considers one more likely.
    const [sea] = serving.service.model.tokenizer.encode(" sea");
    const drawn = { temperature: 2, top_k: 2, seed: 3, max_tokens: 4, logit_bias: { [sea!]: 1 } };
    const all = (await complete({ ...drawn, n: 4, logprobs: 0 })).choices.map(({ text, logprobs }) => ({
      text,
      mean: logprobs!.token_logprobs!.reduce((sum, value) => sum + value, 0) / logprobs!.token_logprobs!.length,
    }));
    const best = all.toSorted((a, b) => b.mean - a.mean).slice(0, 2);
    const { choices, usage } = await complete({ ...drawn, n: 2, best_of: 4 });
    expect(choices.map(({ text, logprobs }) => [text, logprobs])).toEqual(best.map(({ text }) => [text, null]));
    expect(usage!.completion_tokens).toBe(16);
  });

  test("find the KV of the beginning of an earlier text", async () => {
    const beginning = "The keeper wrote down every ship that passed the point. ".repeat(20);
    await complete({ prompt: `${beginning}The first` });
    const { usage } = await complete({ prompt: `${beginning}A second` });
    expect(usage!.prompt_tokens_details!.cached_tokens).toBe(Math.floor((usage!.prompt_tokens - 4) / 64) * 64);
  });

  test.each<[object, string]>([
    [{ prompt: [] }, "prompt"],
    [{ prompt: "" }, "prompt"],
    [{ prompt: [99_999_999] }, "prompt"],
    [{ prompt: "word ".repeat(3_000) }, "prompt"],
    [{ n: 3, best_of: 2 }, "best_of"],
    [{ best_of: 2, stream: true }, "best_of"],
    [{ echo: true, logprobs: 1 }, "echo"],
    [{ suffix: "the end" }, "suffix"],
  ])("refuse %# with the field's name", async (fields, param) => {
    await expect(complete(fields)).rejects.toMatchObject({ status: 400, param });
  });
});

describe("responses", () => {
  type Fields = Partial<OpenAI.Responses.ResponseCreateParamsNonStreaming> & Record<string, unknown>;
  const create = (fields: Fields) =>
    client.responses.create({
      model: "default",
      input: "Say hello to the sailors.",
      max_output_tokens: 6,
      ...fields,
    } as OpenAI.Responses.ResponseCreateParamsNonStreaming);
  const chat = async (messages: object[], fields: object = {}) =>
    (await client.chat.completions.create({ model: "default", messages: messages as never, max_tokens: 6, ...fields })).choices[0]!.message
      .content;
  const HELLO = { role: "user", content: "Say hello to the sailors." };

  test("give the same answers as chats", async () => {
    const response = await create({ instructions: "You are a keeper." });
    expect(response.output_text).toBe(await chat([{ role: "system", content: "You are a keeper." }, HELLO]));
    expect(response).toMatchObject({
      object: "response",
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
      instructions: "You are a keeper.",
      output: [{ type: "message", role: "assistant", content: [{ type: "output_text", annotations: [] }] }],
    });
    expect(response.usage).toMatchObject({ output_tokens: 6, total_tokens: response.usage!.input_tokens + 6 });
    const parts = [
      {
        role: "developer",
        content: [
          { type: "input_text", text: "You are " },
          { type: "input_text", text: "a keeper." },
        ],
      },
      { type: "message", ...HELLO },
    ];
    expect((await create({ input: parts as never })).output_text).toBe(response.output_text);
  });

  test("stream as OpenAI's events, numbered and in order, and OpenAI's client assembles them", async () => {
    const whole = await create({ corpus: true, input: "Who was the keeper?" });
    const stream = client.responses.stream({
      model: "default",
      input: "Who was the keeper?",
      max_output_tokens: 6,
      ...({ corpus: true } as object),
    });
    const events: OpenAI.Responses.ResponseStreamEvent[] = [];
    for await (const event of stream) events.push(event);
    const types = events.map(({ type }) => type).filter((type, i, all) => type !== all[i - 1]);
    expect(types).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.annotation.added",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.incomplete",
    ]);
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, i) => i));
    const final = await stream.finalResponse();
    expect(final.output_text).toBe(whole.output_text);
    const part = final.output[0]!.type === "message" ? final.output[0]!.content[0]! : undefined;
    expect(part).toMatchObject({
      annotations: [
        { type: "url_citation", start_index: 0, end_index: whole.output_text.length, url: expect.stringContaining("/documents/articles/") },
        {},
        {},
      ],
    });
  });

  test("that ended by themselves have the status completed", async () => {
    const { output_text } = await create({});
    const last = output_text.split(/(?= )/).at(-1)!;
    const bias = Object.fromEntries([...serving.service.model.endTokens].map((id) => [id, 100]));
    const ended = await create({ logit_bias: bias });
    expect(ended).toMatchObject({ status: "completed", incomplete_details: null, output_text: "", output: [{ status: "completed" }] });
    expect(last).not.toBe("");
  });

  test("can be continued by id, or by references to their items, with the KV of earlier turns", async () => {
    const first = await create({ instructions: "You are a keeper." });
    const whole = await chat([HELLO, { role: "assistant", content: first.output_text }, { role: "user", content: "And the gulls?" }]);
    const byId = await create({ previous_response_id: first.id, input: "And the gulls?" });
    expect(byId.output_text).toBe(whole); // instructions are not carried over, as in OpenAI's API
    expect(byId.previous_response_id).toBe(first.id);
    const byItem = await create({
      input: [HELLO, { type: "item_reference", id: first.output[0]!.id }, { role: "user", content: "And the gulls?" }] as never,
    });
    expect(byItem.output_text).toBe(whole);
    const third = await create({ previous_response_id: byId.id, input: "And then?" });
    expect(third.usage!.input_tokens_details.cached_tokens).toBeGreaterThanOrEqual(byId.usage!.input_tokens);
  });

  test("are stored unless store is false, and can be read and deleted", async () => {
    const kept = await create({});
    expect(await client.responses.retrieve(kept.id)).toMatchObject({ id: kept.id, output: kept.output });
    await client.responses.delete(kept.id);
    await expect(client.responses.retrieve(kept.id)).rejects.toMatchObject({ status: 404, code: "response_not_found" });
    const passing = await create({ store: false });
    for (const input of [
      { previous_response_id: passing.id },
      { input: [{ type: "item_reference", id: passing.output[0]!.id }, HELLO] as never },
    ]) {
      await expect(create(input)).rejects.toMatchObject({
        status: 404,
        message: expect.stringMatching(/for a day, unless store is false/),
      });
    }
  });

  test("accept tool calls and their outputs, and ignore reasoning", async () => {
    const input = [
      HELLO,
      { type: "reasoning", id: "rs_1", summary: [] },
      { type: "function_call", call_id: "c", name: "weather", arguments: "{}" },
      { type: "function_call_output", call_id: "c", output: "Rain." },
    ];
    const calls = [{ id: "c", type: "function", function: { name: "weather", arguments: "{}" } }];
    expect((await create({ input: input as never })).output_text).toBe(
      await chat([HELLO, { role: "assistant", content: null, tool_calls: calls }, { role: "tool", tool_call_id: "c", content: "Rain." }]),
    );
  });

  test("give log probabilities if included", async () => {
    const { output, output_text } = await create({ include: ["message.output_text.logprobs"] as never, top_logprobs: 2 });
    const [part] = output[0]!.type === "message" ? output[0]!.content : [];
    const { logprobs } = part as OpenAI.Responses.ResponseOutputText;
    expect(logprobs!.map(({ token }) => token).join("")).toBe(output_text);
    expect(logprobs![0]!.top_logprobs).toHaveLength(2);
  });

  test("have the error's status if an answer fails before its first token", async () => {
    await expect(create({ input: "word ".repeat(3_000) })).rejects.toMatchObject({ status: 400, code: "context_length_exceeded" });
    await expect(create({ input: [] })).rejects.toMatchObject({ status: 400, param: "input" });
    await expect(create({ background: true })).rejects.toMatchObject({ status: 400, param: "background" });
  });
});

describe("rerank", () => {
  const documents = ["Bread rises by yeast.", "The keeper of the lighthouse", { text: "A ferry crosses the river." }];

  test("orders documents by the cosine of the embedder's vectors", async () => {
    const { body } = await post("/v1/rerank", { query: "lighthouse keeper", documents, return_documents: true });
    const [query, ...vectors] = await fakeEmbedder().embed([
      "lighthouse keeper",
      "Bread rises by yeast.",
      "The keeper of the lighthouse",
      "A ferry crosses the river.",
    ]);
    const cosines = vectors.map((vector) => vector.reduce((sum, value, i) => sum + value * query![i]!, 0));
    expect(body.results[0]).toMatchObject({ index: 1, document: { text: "The keeper of the lighthouse" } });
    for (const { index, relevance_score } of body.results) expect(relevance_score).toBeCloseTo(cosines[index]!, 6);
    expect((await post("/rerank", { query: "lighthouse", documents, top_n: 1 })).body.results).toHaveLength(1);
  });

  test("refuses another model and no documents, and ignores unknown fields", async () => {
    expect((await post("/v1/rerank", { query: "a", documents, model: "rerank-english-v3.0" })).status).toBe(404);
    expect((await post("/v1/rerank", { query: "a", documents: [] })).status).toBe(400);
    expect((await post("/v1/rerank", { query: "a", documents, max_chunks_per_doc: 3 })).body.warnings).toHaveLength(1);
  });
});

describe("tokens", () => {
  test("of a text, with llama.cpp's and vLLM's fields, and back", async () => {
    const { tokenizer } = serving.service.model;
    const ids = tokenizer.encode("Oda kept a diary.");
    expect((await post("/tokenize", { content: "Oda kept a diary." })).body.tokens).toEqual(ids);
    expect((await post("/v1/tokenize", { model: "default", prompt: "Oda kept a diary.", return_token_strs: true })).body).toEqual({
      tokens: ids,
      count: ids.length,
      max_model_len: 1024,
      token_strs: ids.map((id) => tokenizer.decode([id])),
    });
    expect(
      (await post("/tokenize", { content: "é🜁", with_pieces: true })).body.tokens.some(({ piece }: { piece: unknown }) =>
        Array.isArray(piece),
      ),
    ).toBe(true);
    expect((await post("/detokenize", { tokens: ids })).body).toEqual({ content: "Oda kept a diary.", prompt: "Oda kept a diary." });
  });

  test("of messages are as many as in a chat's prompt", async () => {
    const messages = [
      { role: "system" as const, content: "Be brief." },
      { role: "user" as const, content: "Hello" },
    ];
    const { usage } = await client.chat.completions.create({ model: "default", messages, max_tokens: 1 });
    expect((await post("/tokenize", { messages })).body.count).toBe(usage!.prompt_tokens);
  });

  test("that do not exist are refused", async () => {
    expect((await post("/detokenize", { tokens: [99_999_999] })).status).toBe(400);
    expect((await post("/tokenize", {})).status).toBe(400);
    expect((await post("/tokenize", { content: "a", prompt: "b" })).status).toBe(400);
  });
});

describe("embeddings", () => {
  const embed = (input: unknown) => post("/v1/embeddings", { input });

  test("of token ids are refused, with the setting to change", async () => {
    for (const input of [
      [1, 2, 3],
      [[1, 2], [3]],
    ]) {
      const { status, body } = await embed(input);
      expect(status).toBe(400);
      expect(body.error.message).toMatch(/another model's vocabulary.*check_embedding_ctx_length=False/);
    }
  });

  test("are computed for a batch with an empty text, but not for only an empty text", async () => {
    expect((await embed(["a lighthouse", ""])).body.data).toHaveLength(2);
    expect((await embed("")).status).toBe(400);
  });
});
