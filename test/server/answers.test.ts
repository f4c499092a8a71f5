import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

let serving: Serving;
/** What each of the model's passes waits for. */
let held: Promise<unknown> | undefined;
beforeAll(async () => {
  serving = await startFakeServing({ limits: { contextTokens: 1024 }, before: () => held });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
});

const HELLO = [{ role: "user" as const, content: "Say hello to the sailors." }];
const KEEPER = [{ role: "user" as const, content: "Who was the keeper of the lighthouse?" }];

type Fields = Partial<OpenAI.ChatCompletionCreateParams> & Record<string, unknown>;
type Source = { readonly ref?: string; readonly title: string; readonly url?: string };
type Extended = OpenAI.ChatCompletion & { readonly kvsplice: { readonly sources?: readonly Source[] } };

const ask = (fields: Fields) =>
  serving.client.chat.completions.create({
    model: "default",
    messages: HELLO,
    max_tokens: 8,
    ...fields,
  } as OpenAI.ChatCompletionCreateParamsNonStreaming) as Promise<unknown> as Promise<Extended>;
const textOf = ({ choices }: OpenAI.ChatCompletion) => choices[0]!.message.content!;
async function streamed(fields: Fields): Promise<OpenAI.ChatCompletionChunk[]> {
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  for await (const chunk of await serving.client.chat.completions.create({
    model: "default",
    messages: HELLO,
    max_tokens: 8,
    ...fields,
    stream: true,
  } as OpenAI.ChatCompletionCreateParamsStreaming))
    chunks.push(chunk);
  return chunks;
}

describe("several answers", () => {
  const drawn = { n: 3, temperature: 2, seed: 7 };

  test("are separate choices, each sampled with its own seed, and the prompt counts once", async () => {
    const { choices, usage } = await ask(drawn);
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(new Set(choices.map(({ message }) => message.content)).size).toBe(3);
    for (const [i, { message }] of choices.entries()) expect(textOf(await ask({ ...drawn, n: 1, seed: 7 + i }))).toBe(message.content);
    const alone = await ask({ max_tokens: 8 });
    expect(usage).toMatchObject({ prompt_tokens: alone.usage!.prompt_tokens, completion_tokens: 3 * alone.usage!.completion_tokens });
  });

  test("stream side by side, distinguished by index, with one usage and one end", async () => {
    const { choices } = await ask(drawn);
    const chunks = await streamed({ ...drawn, stream_options: { include_usage: true } });
    const texts = ["", "", ""];
    for (const chunk of chunks) for (const { index, delta } of chunk.choices) texts[index]! += delta.content ?? "";
    expect(texts).toEqual(choices.map(({ message }) => message.content));
    expect(chunks.flatMap((chunk) => chunk.choices).filter(({ finish_reason }) => finish_reason !== null)).toHaveLength(3);
    expect(chunks.at(-1)!.usage!.completion_tokens).toBe(24);
  });

  test("are all remembered: the conversation can continue from each with its KV", async () => {
    const messages = [{ role: "user" as const, content: "Which of the lamps do you see from here, and what colour are they?" }];
    const { choices, usage } = await ask({ ...drawn, messages, seed: 70 });
    for (const { message } of choices) {
      const next = await ask({ messages: [...messages, message, { role: "user" as const, content: "And then?" }] as never });
      expect(next.usage!.prompt_tokens_details!.cached_tokens).toBeGreaterThan(usage!.prompt_tokens);
    }
  });

  test("each take a place in the waiting room", async () => {
    const small = await startFakeServing({ limits: { queue: 2 } });
    await expect(small.client.chat.completions.create({ model: "default", messages: HELLO, n: 3 })).rejects.toMatchObject({ status: 429 });
    expect((await small.client.chat.completions.create({ model: "default", messages: HELLO, n: 2, max_tokens: 1 })).choices).toHaveLength(
      2,
    );
    expect(small.service.waiting.size).toBe(0);
    await small.stop();
    remove(small.folder);
  });
});

describe("sources", () => {
  test("are the only annotations, as URL citations, with kvsplice's sources alongside", async () => {
    const completion = await ask({ messages: KEEPER, corpus: true });
    const { content, annotations } = completion.choices[0]!.message;
    expect(annotations!.length).toBe(3);
    for (const { type, url_citation } of annotations!) {
      expect(type).toBe("url_citation");
      expect(url_citation).toEqual({
        url: expect.stringMatching(`^${serving.url}/documents/articles/[a-z]+\\.(md|txt)#1$`),
        title: expect.any(String),
        start_index: 0,
        end_index: content!.length,
      });
    }
    expect(completion.kvsplice.sources!.map(({ url, title }) => ({ url, title }))).toEqual(
      annotations!.map(({ url_citation: { url, title } }) => ({ url, title })),
    );
    expect(JSON.stringify(completion)).not.toContain(serving.folder);
  });

  test("stream as kvsplice's sources at the beginning, and as annotations at the end, when the text's length is known", async () => {
    const whole = await ask({ messages: KEEPER, corpus: true });
    const chunks = await streamed({ messages: KEEPER, corpus: true });
    expect(chunks[0]).toMatchObject({ kvsplice: { sources: whole.kvsplice.sources } });
    const ending = chunks.find(({ choices }) => choices[0]?.finish_reason)!;
    expect(ending.choices[0]!.delta).toEqual({ annotations: whole.choices[0]!.message.annotations });
  });

  test("have https URLs if a proxy reports TLS, but never another scheme or host from a header", async () => {
    const body = JSON.stringify({ messages: KEEPER, corpus: true, max_tokens: 1 });
    const asked = async (headers: Record<string, string>) =>
      (
        (await (
          await fetch(`${serving.url}/v1/chat/completions`, {
            method: "POST",
            headers: { "content-type": "application/json", ...headers },
            body,
          })
        ).json()) as Extended
      ).kvsplice.sources![0]!.url!;
    const { host } = new URL(serving.url);
    expect(await asked({ "x-forwarded-proto": "https" })).toMatch(`https://${host}/documents/articles/`);
    expect(await asked({ "x-forwarded-proto": "javascript", "x-forwarded-host": "elsewhere.example" })).toMatch(
      `http://${host}/documents/articles/`,
    );
  });

  test("of given texts have the URL that came with them, and no annotation without one", async () => {
    const documents = [
      { title: "Kettle", text: "It boils.", url: "https://shop.example/kettle" },
      { title: "Lamp", text: "It shines." },
    ];
    const completion = await ask({ documents });
    expect(completion.choices[0]!.message.annotations).toMatchObject([
      { url_citation: { url: "https://shop.example/kettle", title: "Kettle" } },
    ]);
    expect(completion.kvsplice.sources).toEqual(documents);
  });

  test("are listed at the end of the text if requested, where their annotations say, and the conversation continues after them", async () => {
    const plain = await ask({ messages: KEEPER, corpus: true });
    const completion = await ask({ messages: KEEPER, corpus: true, citations: true });
    const { content, annotations } = completion.choices[0]!.message;
    const lines = completion.kvsplice.sources!.map(({ title, url }, i) => `[${i + 1}] [${title}](${url})`);
    expect(content).toBe(`${textOf(plain)}\n\n${lines.join("\n")}`);
    expect(annotations!.map(({ url_citation: { start_index, end_index } }) => content!.slice(start_index, end_index))).toEqual(lines);
    const chunks = await streamed({ messages: KEEPER, corpus: true, citations: true });
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe(content);

    const documents = completion.kvsplice.sources!.map(({ ref }) => ref);
    const next = (content: string) => ask({ messages: [...KEEPER, { role: "assistant", content }, ...HELLO], documents });
    const [past, without] = [await next(content!), await next(textOf(plain))];
    expect(past.usage!.prompt_tokens).toBe(without.usage!.prompt_tokens);
    expect(textOf(past)).toBe(textOf(without));
  });

  test("can be read at their URL, which shows the chunk in place", async () => {
    const { kvsplice } = await ask({ messages: KEEPER, corpus: true });
    const { url, title } = kvsplice.sources!.find(({ ref }) => ref === "lighthouse.md#1")!;
    const page = await fetch(url!);
    expect([page.status, page.headers.get("content-type")]).toEqual([200, "text/html; charset=UTF-8"]);
    const text = await page.text();
    expect(text).toContain(`<h1>${title}</h1>`);
    expect(text).toMatch(/<section id="1">.*Oda Halvorsen/);
    for (const path of ["/documents/articles/nothing.md", "/documents/others/lighthouse.md", "/documents/articles/..%2F..%2Fetc%2Fpasswd"])
      expect((await fetch(serving.url + path)).status).toBe(404);
  });
});

describe("log probabilities", () => {
  test("end with the answer: there are none for a stop text and what was held back for it", async () => {
    const whole = await ask({ logprobs: true, max_tokens: 8 });
    const words = textOf(whole).split(/(?= )/);
    const stop = words.slice(3, 5).join("");
    for (const stopped of [await ask({ logprobs: true, stop }), await ask({ logprobs: true, stop: [stop, words[4]!] })]) {
      const text = textOf(stopped);
      expect(text).toBe(words.slice(0, 3).join(""));
      expect(stopped.choices[0]!.logprobs!.content!.map(({ token }) => token).join("")).toBe(text);
    }
    const chunks = await streamed({ logprobs: true, stop });
    for (const { choices } of chunks)
      expect((choices[0]!.logprobs?.content ?? []).map(({ token }) => token).join("")).toBe(choices[0]!.delta.content ?? "");
  });

  test("of text that only resembled a stop text come with that text", async () => {
    const words = textOf(await ask({})).split(/(?= )/);
    const completion = await ask({ logprobs: true, stop: `${words[2]!} nothing of the kind` });
    expect(completion.choices[0]!.logprobs!.content!.map(({ token }) => token)).toEqual(words);
  });
});

describe("a stream", () => {
  test("has a request id, and is logged with it when it ends", async () => {
    const { response, data, request_id } = await serving.client.chat.completions
      .create({ model: "default", messages: HELLO, max_tokens: 2, stream: true })
      .withResponse();
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
    for await (const _ of data);
    await expect.poll(() => serving.logged).toContainEqual(expect.objectContaining({ request: request_id, msg: "request", status: 200 }));
  });

  test("whose client disconnects counts as 499", async () => {
    const counted = async () =>
      /kvsplice_requests_total\{route="\/v1\/chat\/completions",status="499"\} (\d+)/.exec(
        await (await fetch(`${serving.url}/metrics`)).text(),
      )?.[1];
    let release!: () => void;
    const stream = await serving.client.chat.completions.create({ model: "default", messages: HELLO, max_tokens: 500, stream: true });
    for await (const _ of stream) {
      held = new Promise<void>((resolve) => (release = resolve));
      break;
    }
    setTimeout(() => release(), 200);
    await expect.poll(counted).toBe("1");
    held = undefined;
    expect(serving.service.waiting.size).toBe(0);
  });
});
