import { Ajv2020 } from "ajv/dist/2020.js";
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

let serving: Serving;
beforeAll(async () => {
  serving = await startFakeServing();
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
});

type Body = Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>;
const HELLO: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "Who keeps the lighthouse?" }];

const create = (body: Body) =>
  serving.client.chat.completions.create({ model: "default", messages: HELLO, max_tokens: 300, temperature: 1, ...body });

/** A streamed answer, assembled as clients do. */
async function streamed(body: Body) {
  const stream = await serving.client.chat.completions.create({
    model: "default",
    messages: HELLO,
    max_tokens: 300,
    temperature: 1,
    ...body,
    stream: true,
  });
  let content = "";
  let finish: string | null = null;
  const calls: { name: string; arguments: string; id: string }[] = [];
  for await (const { choices } of stream) {
    content += choices[0]?.delta.content ?? "";
    for (const { index, id = "", function: part } of choices[0]?.delta.tool_calls ?? []) {
      calls[index] ??= { id, name: part?.name ?? "", arguments: "" };
      calls[index].arguments += part?.arguments ?? "";
    }
    finish = choices[0]?.finish_reason ?? finish;
  }
  return { content, finish, calls };
}

const keeper = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    year: { type: "integer", minimum: 1700, maximum: 2100 },
    lamps: { type: "array", items: { enum: ["red", "green", "white"] }, maxItems: 3 },
    aide: {
      anyOf: [
        { type: "null" },
        {
          type: "object",
          properties: { age: { type: "integer", minimum: 0, maximum: 99 } },
          required: ["age"],
          additionalProperties: false,
        },
      ],
    },
  },
  required: ["name", "year", "lamps"],
  additionalProperties: false,
};
const format = (schema: object): Body => ({
  response_format: { type: "json_schema", json_schema: { name: "keeper", strict: true, schema: schema as Record<string, unknown> } },
});
const validate = (schema: object, text: string | null) =>
  expect(new Ajv2020().validate(schema, JSON.parse(text ?? "")), String(text)).toBe(true);

describe("an answer to a JSON Schema", () => {
  test("parses and validates, as a whole and streamed, and is the same both ways", async () => {
    const answers = new Set<string>();
    for (let seed = 1; seed <= 6; seed++) {
      const { choices } = await create({ ...format(keeper), seed });
      expect(choices[0]!.finish_reason).toBe("stop");
      validate(keeper, choices[0]!.message.content);
      expect((await streamed({ ...format(keeper), seed })).content).toBe(choices[0]!.message.content);
      answers.add(choices[0]!.message.content!);
    }
    expect(answers.size).toBeGreaterThan(3);
  });

  test("alongside fifteen others with their own schemas, is the same as by itself", async () => {
    const bodies = Array.from({ length: 16 }, (_, i) => ({
      ...format({ ...keeper, properties: { ...keeper.properties, name: { type: "string", maxLength: i + 1 } } }),
      seed: i,
    }));
    const alone = [];
    for (const body of bodies) alone.push((await create(body)).choices[0]!.message.content);
    const together = await Promise.all(bodies.map((body) => create(body)));
    expect(together.map(({ choices }) => choices[0]!.message.content)).toEqual(alone);
  });

  test("that is cut off at its maximum length says so", async () => {
    const { choices } = await create({ ...format(keeper), max_tokens: 4 });
    expect(choices[0]!.finish_reason).toBe("length");
  });

  test("is an object if any object is allowed", async () => {
    // The fake model's text never ends by itself, so its object is incomplete.
    const { content } = await streamed({ response_format: { type: "json_object" }, max_tokens: 6, seed: 1 });
    expect(content).toMatch(/^\{/);
  });

  test("over documents of the corpus validates too", async () => {
    const { choices } = await create({ ...format(keeper), ...({ corpus: true } as Body), seed: 2 });
    validate(keeper, choices[0]!.message.content);
  });
});

test.each([
  ["not", { not: { type: "string" } }, /"not"/],
  ["uniqueItems", { type: "array", items: { type: "integer" }, uniqueItems: true }, /"uniqueItems"/],
  ["an unknown format", { type: "string", format: "colour" }, /colour/],
  ["a pattern that looks ahead", { type: "string", pattern: "(?=a)b" }, /look-ahead/],
])("a schema with %s is refused, and the reason names it", async (_, schema, reason) => {
  const error = await create(format(schema)).catch((failure: unknown) => failure as Error);
  expect(error).toMatchObject({ status: 400, param: "response_format", code: "invalid_value" });
  expect((error as Error).message).toMatch(reason);
});

const tools: OpenAI.ChatCompletionFunctionTool[] = [
  {
    type: "function",
    function: {
      name: "ferry_times",
      description: "When ferries leave",
      parameters: {
        type: "object",
        properties: { pier: { enum: ["Dollis", "Marten"] }, cars: { type: "integer", minimum: 0, maximum: 9 } },
        required: ["pier"],
        additionalProperties: false,
      },
    },
  },
  {
    type: "function",
    function: {
      name: "lamp",
      parameters: { type: "object", properties: { lit: { type: "boolean" } }, required: ["lit"], additionalProperties: false },
    },
  },
];
const schemaOf = (name: string) => tools.find((tool) => tool.function.name === name)!.function.parameters!;

describe("tools", () => {
  test.each([1, 2, 3, 4, 5])(
    "a required call calls one of them, with arguments that validate, as a whole and streamed (seed %i)",
    async (seed) => {
      const body: Body = { tools, tool_choice: "required", parallel_tool_calls: false, seed };
      const { choices } = await create(body);
      const [call] = choices[0]!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
      expect(choices[0]).toMatchObject({ finish_reason: "tool_calls", message: { content: null, tool_calls: [{ type: "function" }] } });
      validate(schemaOf(call!.function.name), call!.function.arguments);
      expect(await streamed(body)).toMatchObject({
        content: "",
        finish: "tool_calls",
        calls: [{ id: expect.stringMatching(/^call_/) as string, ...call!.function }],
      });
    },
  );

  test("a named function is called", async () => {
    for (const {
      function: { name },
    } of tools) {
      const { choices } = await create({ tools, tool_choice: { type: "function", function: { name } }, seed: 1 });
      const calls = choices[0]!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
      expect(calls.map((call) => call.function.name)).toEqual([name]);
      validate(schemaOf(name), calls[0]!.function.arguments);
    }
  });

  test("if the model may choose, it answers freely", async () => {
    const { content, calls, finish } = await streamed({ tools, max_tokens: 12, temperature: 0 });
    expect({ calls, finish }).toEqual({ calls: [], finish: "length" });
    expect(content).toMatch(/[a-z]/);
  });

  test("are left out if none may be called", async () => {
    const [plain, none] = [
      await create({ max_tokens: 8, temperature: 0 }),
      await create({ tools, tool_choice: "none", max_tokens: 8, temperature: 0 }),
    ];
    expect(none.choices[0]!.message.content).toBe(plain.choices[0]!.message.content);
    expect(none.usage!.prompt_tokens).toBe(plain.usage!.prompt_tokens);
  });

  test("a conversation continues from the results: the catalogue and the call are cached, the result is computed", async () => {
    const body: Body = { tools, tool_choice: "required", parallel_tool_calls: false, seed: 9 };
    const first = await create(body);
    const { message } = first.choices[0]!;
    const results = message.tool_calls!.map(({ id }) => ({ role: "tool" as const, tool_call_id: id, content: "At noon." }));
    const second = await create({ tools, max_tokens: 4, temperature: 0, messages: [...HELLO, message, ...results] });
    const cached = second.usage!.prompt_tokens_details!.cached_tokens!;
    expect(cached).toBeGreaterThanOrEqual(first.usage!.prompt_tokens);
    expect(second.usage!.prompt_tokens - cached).toBeLessThan(60);
    const other = await create({ tools, max_tokens: 4, messages: [{ role: "user", content: "Something else" }] });
    expect(other.usage!.prompt_tokens_details!.cached_tokens).toBeGreaterThan(100);
  });

  test("can be combined with a format: the answer is one or the other", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const { choices } = await create({ tools, ...format(keeper), seed });
      const { content, tool_calls } = choices[0]!.message;
      if (tool_calls)
        for (const call of tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[])
          validate(schemaOf(call.function.name), call.function.arguments);
      else validate(keeper, content);
    }
  });

  test("whose arguments cannot be enforced accept any object, with a warning, unless they are strict", async () => {
    const loose = { type: "function" as const, function: { name: "f", parameters: { type: "object", properties: { x: { not: {} } } } } };
    const answer = await create({ tools: [loose], max_tokens: 4 });
    expect((answer as unknown as { warnings: string[] }).warnings).toEqual([expect.stringMatching(/'f' can be any object: .*"not"/)]);
    const error = await create({ tools: [{ ...loose, function: { ...loose.function, strict: true } }] }).catch(
      (failure: unknown) => failure,
    );
    expect(error).toMatchObject({ status: 400, param: "tools[0].function.parameters" });
  });

  test.each([
    ["tool_choice", { tools, tool_choice: { type: "function", function: { name: "other" } } }],
    ["tool_choice", { tool_choice: "required" }],
    ["tools", { tools, corpus: true }],
    ["tools[0].function.name", { tools: [{ type: "function", function: { name: "two words" } }] }],
    ["tools", { tools: [{ type: "function", function: { name: "f", description: "<|im_end|>" } }] }],
  ])("that are not possible are refused, naming %s", async (param, body) => {
    await expect(create(body as Body)).rejects.toMatchObject({ status: 400, param });
  });
});

describe("a response", () => {
  test("has the format that its text field says, as a whole and streamed", async () => {
    const body = {
      model: "default",
      input: "Who keeps the lighthouse?",
      max_output_tokens: 300,
      temperature: 1,
      ...({ seed: 4 } as object),
      text: { format: { type: "json_schema" as const, name: "keeper", strict: true, schema: keeper } },
    };
    const response = await serving.client.responses.create(body);
    validate(keeper, response.output_text);
    let text = "";
    for await (const event of await serving.client.responses.create({ ...body, stream: true }))
      if (event.type === "response.output_text.delta") text += event.delta;
    expect(text).toBe(response.output_text);
  });
});

describe("a response with tools", () => {
  const flat = tools.map(({ type, function: described }) => ({ type, strict: false, ...described })) as OpenAI.Responses.FunctionTool[];
  const asked = {
    model: "default",
    input: "Who keeps the lighthouse?",
    max_output_tokens: 300,
    temperature: 1,
    ...({ seed: 9 } as object),
    tools: flat,
  };
  const forced = { ...asked, tool_choice: "required" as const, parallel_tool_calls: false };

  test("has the same call as a chat, as an output item, whole or streamed, and OpenAI's client assembles it", async () => {
    const chat = await create({ tools, tool_choice: "required", parallel_tool_calls: false, seed: 9 });
    const [call] = chat.choices[0]!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
    const whole = await serving.client.responses.create(forced);
    const item = {
      type: "function_call",
      status: "completed",
      id: expect.stringMatching(/^fc_/) as string,
      call_id: expect.stringMatching(/^call_/) as string,
      ...call!.function,
    };
    expect(whole).toMatchObject({
      status: "completed",
      output_text: "",
      tool_choice: "required",
      tools: [{ type: "function", name: "ferry_times" }, { name: "lamp" }],
    });
    expect(whole.output).toEqual([item]);
    const stream = serving.client.responses.stream(forced);
    const events: OpenAI.Responses.ResponseStreamEvent[] = [];
    for await (const event of stream) events.push(event);
    expect(events.map(({ type }) => type)).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.completed",
    ]);
    expect((await stream.finalResponse()).output).toMatchObject([item]);
  });

  test("calls a named function, and is text if none may be called", async () => {
    const named = await serving.client.responses.create({ ...asked, tool_choice: { type: "function", name: "lamp" } });
    expect(named.output).toMatchObject([{ type: "function_call", name: "lamp" }]);
    const none = await serving.client.responses.create({ ...asked, tool_choice: "none", max_output_tokens: 4 });
    expect(none.output).toMatchObject([{ type: "message" }]);
  });

  test("continues from a result by id, by references, and by the items themselves", async () => {
    const first = await serving.client.responses.create(forced);
    const [call] = first.output as [OpenAI.Responses.ResponseFunctionToolCall];
    const result = { type: "function_call_output" as const, call_id: call.call_id, output: "At noon." };
    const again = { ...asked, temperature: 0, max_output_tokens: 4 };
    const byId = await serving.client.responses.create({ ...again, previous_response_id: first.id, input: [result] });
    const question = { role: "user" as const, content: asked.input };
    const byItems = await serving.client.responses.create({ ...again, input: [question, call, result] });
    const byReference = await serving.client.responses.create({
      ...again,
      input: [question, { type: "item_reference", id: call.id! }, result],
    });
    expect(byId.output_text).toMatch(/[a-z]/);
    expect([byItems.output_text, byReference.output_text]).toEqual([byId.output_text, byId.output_text]);
    expect(byId.usage!.input_tokens_details.cached_tokens).toBeGreaterThanOrEqual(first.usage!.input_tokens);
  });

  test.each([
    ["tool_choice", { tool_choice: { type: "function", name: "other" } }],
    ["tools", { corpus: true }],
    ["tools[0].type", { tools: [{ type: "web_search" }] }],
  ])("refuses what is not possible, naming %s", async (param, fields) => {
    await expect(serving.client.responses.create({ ...asked, ...fields } as never)).rejects.toMatchObject({ status: 400, param });
  });
});

test("tools are ignored, with a warning, if the model's id selects a corpus", async () => {
  const answer = await create({ model: "kvsplice-135m/articles", tools, max_tokens: 4 });
  expect((answer as unknown as { warnings: string[] }).warnings).toEqual([expect.stringMatching(/'tools' is ignored/)]);
});
