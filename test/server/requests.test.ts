import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

let serving: Serving;
let strict: Serving;
beforeAll(async () => {
  serving = await startFakeServing({ limits: { contextTokens: 512 } });
  strict = await startFakeServing({ strict: true });
});
afterAll(async () => {
  for (const each of [serving, strict]) {
    await each.stop();
    remove(each.folder);
  }
});

const HELLO = [{ role: "user", content: "Say hello to the sailors." }];

type Completion = {
  choices: { message: { content: string }; finish_reason: string }[];
  usage: { prompt_tokens: number; completion_tokens: number; prompt_tokens_details: { cached_tokens: number } };
  warnings?: string[];
  error?: { param: string | null; code: string; message: string };
};

async function post(fields: object, { url } = serving): Promise<{ status: number; body: Completion }> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ messages: HELLO, max_tokens: 8, ...fields }),
  });
  return { status: response.status, body: (await response.json()) as Completion };
}

async function answered(fields: object): Promise<Completion & { text: string }> {
  const { status, body } = await post(fields);
  expect(body.error).toBeUndefined();
  expect(status).toBe(200);
  return { ...body, text: body.choices[0]!.message.content };
}

describe("a field of other servers", () => {
  test("that has no meaning here is ignored, with a warning that names it, as a whole and streamed", async () => {
    const fields = { mirostat: 2, keep_alive: "5m", temperature: 0 };
    const completion = await answered(fields);
    expect(completion.text).toBe((await answered({ temperature: 0 })).text);
    expect(completion.warnings).toEqual([
      "'mirostat' is ignored: this server does not know it.",
      "'keep_alive' is ignored: this server does not know it.",
    ]);
    const stream = await serving.client.chat.completions.create({
      model: "default",
      messages: HELLO as never,
      max_tokens: 2,
      stream: true,
      ...({ mirostat: 2 } as object),
    });
    const told: unknown[] = [];
    for await (const chunk of stream) told.push(...((chunk as { warnings?: string[] }).warnings ?? []));
    expect(told).toEqual([completion.warnings![0]]);
  });

  test("causes no warning if everything is understood", async () => {
    expect(
      (
        await answered({
          top_k: -1,
          min_p: 0,
          repetition_penalty: 1,
          chat_template_kwargs: { enable_thinking: false },
          num_ctx: 256,
          cache_prompt: true,
        })
      ).warnings,
    ).toBeUndefined();
  });

  test("chat_template_kwargs that would change the prompt, and a num_ctx that is too large, cause warnings", async () => {
    expect((await answered({ chat_template_kwargs: { enable_thinking: true }, num_ctx: 32_768 })).warnings).toEqual([
      "'chat_template_kwargs.enable_thinking' is ignored: the template is used unchanged, without thinking.",
      "'num_ctx' is 32768, but this server's context has 512.",
    ]);
  });

  test("cache_prompt false reads no KV of an earlier answer, and gives the same answer", async () => {
    const messages = [{ role: "user", content: "What is cached of this?" }];
    const first = await answered({ messages });
    expect((await answered({ messages })).usage.prompt_tokens_details.cached_tokens).toBeGreaterThan(0);
    const uncached = await answered({ messages, cache_prompt: false });
    expect(uncached.usage.prompt_tokens_details.cached_tokens).toBe(0);
    expect(uncached.text).toBe(first.text);
  });

  test("num_ctx limits prompt and answer together", async () => {
    const { usage, choices } = await answered({ num_ctx: 64, max_tokens: 500 });
    expect(usage.prompt_tokens + usage.completion_tokens).toBe(64);
    expect(choices[0]!.finish_reason).toBe("length");
  });

  test("repeat_penalty is repetition_penalty, and top_k 1 leaves the likeliest", async () => {
    const likeliest = (await answered({})).text;
    expect((await answered({ top_k: 1, temperature: 2, seed: 1 })).text).toBe(likeliest);
    expect((await answered({ min_p: 1, temperature: 2, seed: 1 })).text).toBe(likeliest);
    const messages = [{ role: "user", content: likeliest }];
    expect((await answered({ messages, repeat_penalty: 9 })).text).toBe((await answered({ messages, repetition_penalty: 9 })).text);
  });
});

test.each<[object, string]>([
  [{ mood: "b" }, "mood"],
  [{ messages: [{ role: "user", content: "a", mood: "b" }] }, "messages[0].mood"],
  [{ messages: [{ role: "user", content: [{ type: "text", text: "a", cache_control: {} }] }] }, "messages[0].content[0].cache_control"],
  [{ stream_options: { mood: true }, stream: true }, "stream_options.mood"],
  [{ documents: [{ text: "a", id: "7" }] }, "documents[0].id"],
])("the unknown field %j is ignored, and refused if the server is strict", async (fields, param) => {
  const lenient = await fetch(`${serving.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ messages: HELLO, max_tokens: 1, ...fields }),
  });
  expect([lenient.status, await lenient.text()]).toEqual([200, expect.any(String)]);
  const { status, body } = await post(fields, strict);
  expect([status, body.error]).toMatchObject([400, { param, code: "unknown_parameter" }]);
});

describe("messages", () => {
  const call = { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } };
  const step = [
    ...HELLO,
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "call_1", content: "Rain." },
  ];

  test("of a tool call, with content null, and of its result are read", async () => {
    const spoken = [
      ...HELLO,
      { role: "assistant", content: '<tool_call>\n{"name": "weather", "arguments": {"city":"Oslo"}}\n</tool_call>' },
      { role: "user", content: "<tool_response>\nRain.\n</tool_response>" },
    ];
    expect((await answered({ messages: step })).text).toBe((await answered({ messages: spoken })).text);
  });

  test("with tools are accepted if none may be called", async () => {
    const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
    expect((await answered({ messages: step, tools, tool_choice: "none" })).warnings).toBeUndefined();
  });

  test("that end with the assistant's are continued as if the model had said that: the answer is what follows", async () => {
    const whole = await answered({ max_tokens: 12 });
    const [begun] = /^( \w+){5}/.exec(whole.text)!;
    const rest = await answered({ messages: [...HELLO, { role: "assistant", content: begun }], max_tokens: 7 });
    expect(begun + rest.text).toBe(whole.text);
    expect(rest.text).toMatch(/^ /);
    const next = await answered({
      messages: [...HELLO, { role: "assistant", content: begun + rest.text }, { role: "user", content: "And then?" }],
    });
    expect(next.usage.prompt_tokens_details.cached_tokens).toBeGreaterThanOrEqual(rest.usage.prompt_tokens);
  });

  test("over documents too, where the question is the user's last message", async () => {
    const messages = [{ role: "user", content: "How many cars does the ferry carry?" }];
    const { text } = await answered({ messages, corpus: true, max_tokens: 6 });
    const [begun] = /^( \w+){3}/.exec(text)!;
    expect(
      begun + (await answered({ messages: [...messages, { role: "assistant", content: begun }], corpus: true, max_tokens: 3 })).text,
    ).toBe(text);
  });

  test("with empty content or no parts are valid", async () => {
    for (const content of ["", []]) expect((await answered({ messages: [{ role: "system", content }, ...HELLO] })).text).not.toBe("");
  });

  test("with an answer longer than the rest of the context get what is left", async () => {
    const { usage } = await answered({ max_tokens: 100_000 });
    expect(usage.prompt_tokens + usage.completion_tokens).toBe(512);
  });
});
