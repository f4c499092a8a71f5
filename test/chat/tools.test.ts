import { Template } from "@huggingface/jinja";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chatPlan } from "../../chat/index.js";
import { CallReader, type Said, spoken, type ToolCall, toolForm, withTools, writeCalls, writeResults } from "../../chat/tools/index.js";
import { createChatTemplate } from "../../engine/model/chat-template.js";
import { type CallForm, type ChatTemplate, type Role, type Tokenizer, type Tool, tokensOf } from "../../plan/index.js";
import { spokenRequest } from "../../server/requests/spoken.js";

const tools: readonly Tool[] = [
  {
    name: "weather",
    description: "The weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
  { name: "time", parameters: { type: "object", properties: {} } },
];
const names = new Set(tools.map(({ name }) => name));
const FORMS: readonly CallForm[] = ["tags", "list", "object"];

/** A reader's complete output for a text that arrives in pieces. */
function read(form: CallForm, pieces: readonly string[]): { readonly said: string; readonly calls: readonly ToolCall[] } {
  const reader = new CallReader(form, names);
  const parts = [...pieces.map((piece) => reader.push(piece)), reader.finish()];
  return { said: parts.map(({ said }) => said).join(""), calls: parts.flatMap(({ calls }) => calls) };
}

/** A text cut at some places. */
const cut = (text: string, at: readonly number[]) => {
  const places = [0, ...at.map((place) => place % (text.length + 1)).sort((a, b) => a - b), text.length];
  return places.slice(1).map((end, i) => text.slice(places[i], end));
};

const call = fc.record({
  name: fc.constantFrom(...names),
  arguments: fc.dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 2 })).map((value) => JSON.stringify(value)),
});

describe.each(FORMS)("calls in the form %s", (form) => {
  test("are read as they were written, however their text is split into pieces", () => {
    const most = form === "object" ? 1 : 3;
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: most }), fc.array(fc.nat(), { maxLength: 6 }), (calls, at) => {
        const found = read(form, cut(writeCalls(form, "", calls), at));
        expect(found.said).toBe("");
        expect(found.calls.map((each) => [each.name, JSON.parse(each.arguments)])).toEqual(
          calls.map((each) => [each.name, JSON.parse(each.arguments)]),
        );
        if (most === 1 || form === "tags") expect(writeCalls(form, "", found.calls)).toBe(writeCalls(form, "", calls));
      }),
    );
  });

  test("text without a call is passed on unchanged", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.constantFrom("[1, 2]", "{", '{"name": "other", "arguments": {}}', "a <tool", "x < y\n", "[]")),
        fc.array(fc.nat(), { maxLength: 6 }),
        (text, at) => {
          expect(read(form, cut(text, at))).toEqual({ said: text, calls: [] });
        },
      ),
    );
  });
});

describe("a reader of calls between tags", () => {
  const weather = { name: "weather", arguments: '{"city":  "Paris"}' };

  test("returns the text before a call, without the white space in between", () => {
    expect(read("tags", [writeCalls("tags", "I look it up.", [weather])])).toEqual({ said: "I look it up.", calls: [weather] });
  });

  test("accepts an answer that is a call without its tags", () => {
    expect(read("tags", ['{"name": "weather", ', '"arguments": {"city":  "Paris"}}'])).toEqual({ said: "", calls: [weather] });
    const inWords = 'Call {"name": "weather", "arguments": {}}';
    expect(read("tags", [inWords])).toEqual({ said: inWords, calls: [] });
  });

  test("accepts a code block with one or more calls, as code models write them, however it is split into pieces", () => {
    const one = '```json\n{\n  "name": "weather",\n  "arguments": {"city":  "Paris"}\n}\n```';
    const two = '```\n[{"name": "time", "arguments": {}}, {"name": "weather", "arguments": {"city": "Paris"}}]\n```';
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 6 }), (at) => {
        expect(read("tags", cut(one, at))).toMatchObject({ said: "", calls: [{ name: "weather" }] });
        expect(read("tags", cut(`I look it up:\n${one}`, at))).toMatchObject({ said: "I look it up:", calls: [{ name: "weather" }] });
        expect(read("tags", cut(two, at)).calls.map(({ name }) => name)).toEqual(["time", "weather"]);
        expect(read("tags", cut(`${one}\n${two}`, at)).calls).toHaveLength(3);
      }),
    );
    expect(read("tags", [one.replace("\n```", "")])).toMatchObject({ said: "", calls: [{ name: "weather" }] });
    expect(JSON.parse(read("tags", [one]).calls[0]!.arguments)).toEqual({ city: "Paris" });
  });

  test("passes on other code blocks unchanged", () => {
    const blocks = [
      '```json\n{"name": "other", "arguments": {}}\n```\n',
      "```js\nlet a = 1;\n```",
      '```json\n{"a": 1}\n``` and `b`',
      "``",
      "```",
      '```ts\nconst call = ```\n{"name": "weather", "arguments": {}}\n```',
    ];
    fc.assert(
      fc.property(fc.constantFrom(...blocks), fc.array(fc.nat(), { maxLength: 6 }), (text, at) => {
        expect(read("tags", cut(`So:\n\n${text}`, at))).toEqual({ said: `So:\n\n${text}`, calls: [] });
      }),
    );
  });

  test("passes on text as soon as it cannot begin a tag", () => {
    const reader = new CallReader("tags", names);
    expect(reader.push("It is < 3")).toEqual({ said: "It is < 3", calls: [] });
    expect(reader.push(" <tool")).toEqual({ said: "", calls: [] });
    expect(reader.push("s>")).toEqual({ said: " <tools>", calls: [] });
  });

  test("accepts a last call whose end is missing, and passes on text that is not a call", () => {
    const text = writeCalls("tags", "", [weather]);
    expect(read("tags", [text.replace("\n</tool_call>", "")])).toEqual({ said: "", calls: [weather] });
    for (const wrong of [
      '<tool_call>\n{"name": "weather"}\n</tool_call>',
      "<tool_call>\nno JSON\n</tool_call>",
      '<tool_call>\n{"name": "nothing", "arguments": {}}\n</tool_call>',
      "<tool_call>",
    ]) {
      expect(read("tags", [wrong])).toEqual({ said: wrong, calls: [] });
    }
  });
});

const turns = `{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`;
/** A template like Hermes': tools in the system message, calls and results between tags. */
const hermes = [
  `{% if tools %}<|system|>{{ messages[0].content if messages[0].role == 'system' else '' }}\n<tools>`,
  `{% for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}</tools> as <tool_call><|end|>{{ '\\n' }}`,
  `{% elif messages[0].role == 'system' %}<|system|>{{ messages[0].content }}<|end|>{{ '\\n' }}{% endif %}`,
  `{% for m in messages %}{% if m.role == 'tool' %}`,
  `{% set before = loop.index0 > 0 and messages[loop.index0 - 1].role == 'tool' %}`,
  `{{ '\\n' if before else '<|user|>' }}<tool_response>{{ '\\n' + m.content + '\\n' }}</tool_response>`,
  `{{ '' if not loop.last and messages[loop.index0 + 1].role == 'tool' else '<|end|>\\n' }}`,
  `{% elif m.role == 'assistant' and m.tool_calls %}<|assistant|>{{ m.content }}`,
  `{% for c in m.tool_calls %}{{ '\\n<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' }}{{ c.function.arguments | tojson }}{{ '}\\n</tool_call>' }}{% endfor %}`,
  `<|end|>{{ '\\n' }}{% elif m.role != 'system' or not loop.first %}<|{{ m.role }}|>{{ m.content }}<|end|>{{ '\\n' }}{% endif %}{% endfor %}`,
  `{% if add_generation_prompt %}<|assistant|>{% endif %}`,
].join("");

const load = (source: string) => createChatTemplate({ source, bos: "<s>", eos: "</s>", addBos: false });
const characters = { encode: (text: string) => Array.from(text, (character) => character.codePointAt(0)!) };

function framed(chat: ChatTemplate, messages: readonly { readonly role: Role; readonly content: string }[]): string {
  const said = messages.map(({ role, content }, i) => {
    const { open, close } = chat.frame(role, messages[i - 1]?.role);
    return open + chat.content(role, content) + close;
  });
  return said.join("") + chat.generationPrompt;
}

describe("a catalogue of tools", () => {
  test.each([true, false])("is placed by the template, with calls and results in its form (with a system message: %s)", (instructed) => {
    const { chat, form } = withTools(load(hermes), tools, characters);
    expect(form).toBe("tags");
    const calls = [
      { name: "weather", arguments: '{"city": "Paris"}' },
      { name: "time", arguments: "{}" },
    ];
    const system = instructed ? [{ role: "system" as const, content: "Be brief." }] : [];
    const own = framed(chat, [
      ...system,
      { role: "user", content: "How is it?" },
      { role: "assistant", content: writeCalls(form, "Let me see.", calls) },
      { role: "user", content: writeResults(["sunny", "noon"]) },
      { role: "assistant", content: "Sunny." },
      { role: "user", content: "Thanks" },
    ]);
    const rendered = new Template(hermes).render({
      tools: tools.map((tool) => ({ type: "function", function: tool })),
      add_generation_prompt: true,
      messages: [
        ...system,
        { role: "user", content: "How is it?" },
        {
          role: "assistant",
          content: "Let me see.",
          tool_calls: calls.map((each) => ({ type: "function", function: { name: each.name, arguments: JSON.parse(each.arguments) } })),
        },
        { role: "tool", content: "sunny" },
        { role: "tool", content: "noon" },
        { role: "assistant", content: "Sunny." },
        { role: "user", content: "Thanks" },
      ],
    });
    expect(own).toBe(rendered);
  });

  test.each([
    ["no place for tools", turns],
    ["a place for tools that cannot be cut into messages", `${turns}{% if tools %}{{ messages[0].content }}<tool_call>{% endif %}`],
  ])("is in the system message if the template has %s", (_, source) => {
    const { chat, form } = withTools(load(source), tools, characters);
    expect(form).toBe("tags");
    const [system, user] = [
      { role: "system" as const, content: "Be brief." },
      { role: "user" as const, content: "Hi" },
    ];
    const [told, untold] = [framed(chat, [system, user]), framed(chat, [user])];
    expect(told).toMatch(/^<\|system\|>Be brief\.\n\nYou may call functions/);
    expect(untold).toMatch(/^<\|system\|>You may call functions/);
    for (const text of [told, untold]) {
      for (const tool of tools) expect(text.split(JSON.stringify(tool))).toHaveLength(2);
      expect(text).toMatch(/<\/tool_call><\|end\|>\n<\|user\|>Hi<\|end\|>\n<\|assistant\|>$/);
    }
  });

  test("refuses a tool that contains a control token", () => {
    const tokenizer = {
      encode: (text: string, { control = false } = {}) => (control ? text.split("<|end|>").map((part) => part.length) : [text.length]),
    };
    expect(() => withTools(load(turns), [{ name: "f", description: "ends <|end|> here" }], tokenizer)).toThrow(
      /'f' contains a control token/,
    );
  });
});

/** A template like Llama 3's: one call per answer, results as JSON in turns with a separate role, tools in the first question. */
const llama = [
  `{{ bos_token }}{% if messages[0].role == 'system' %}<|head|>system<|/head|>{{ messages[0].content | trim }}<|eot|>{% set messages = messages[1:] %}{% endif %}`,
  `{% for m in messages %}`,
  `{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at once') }}{% endif %}{% set f = m.tool_calls[0].function %}`,
  `<|head|>assistant<|/head|>{{ '{"name": "' + f.name + '", "parameters": ' }}{{ f.arguments | tojson }}{{ '}' }}<|eot|>`,
  `{% elif m.role == 'tool' %}{{ '<|start_header_id|>ipython<|/head|>' }}{{ m.content | tojson }}<|eot|>`,
  `{% else %}<|head|>{{ m.role }}<|/head|>{% if tools and loop.first %}{% for t in tools %}{{ t | tojson }}{{ '\n' }}{% endfor %}{% endif %}{{ m.content | trim }}<|eot|>{% endif %}`,
  `{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>{% endif %}`,
].join("");

/** A template like Mistral's: ids of nine characters, tools before the last question. */
const mistral = [
  `{{ bos_token }}{% set questions = messages | selectattr('role', 'equalto', 'user') | list %}`,
  `{% for m in messages %}`,
  `{% if m.role == 'user' %}{% if tools and m == questions[-1] %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST]{{ m.content }}[/INST]`,
  `{% elif m.tool_calls %}[TOOL_CALLS][{% for c in m.tool_calls %}{{ (c.function | tojson)[:-1] }}`,
  `{% if c.id | length != 9 %}{{ raise_exception('nine characters') }}{% endif %}{{ ', "id": "' + c.id + '"}' }}{{ '' if loop.last else ', ' }}{% endfor %}]{{ eos_token }}`,
  `{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ '{"content": ' + m.content + ', ' }}{% if m.tool_call_id | length != 9 %}{{ raise_exception('nine characters') }}{% endif %}`,
  `{{ '"call_id": "' + m.tool_call_id + '"}' }}[/TOOL_RESULTS]`,
  `{% elif m.role == 'system' %}{{ raise_exception('no system message') }}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}`,
].join("");

/** The same with the id before the result. */
const idFirst = mistral
  .replace(`{{ '{"content": ' + m.content + ', ' }}`, "")
  .replace(`{{ '"call_id": "' + m.tool_call_id + '"}' }}`, `{{ '{"call_id": "' + m.tool_call_id + '", "content": ' + m.content + '}' }}`);

describe.each([
  ["Llama 3", llama, "object", 1],
  ["Mistral", mistral, "list", 3],
  ["Mistral, ids before results", idFirst, "list", 3],
] as const)("a call's result, in a template like %s's,", (_, source, form, mostCalls) => {
  const contents = fc.string({ unit: "grapheme", minLength: 1 }).filter((text) => text.trim() === text && text !== "");
  const step = fc.array(
    fc.tuple(fc.constantFrom(...names), fc.dictionary(fc.stringMatching(/^[a-z]+$/), contents, { maxKeys: 2 }), contents),
    { minLength: 1, maxLength: mostCalls },
  );
  const exchange = fc.tuple(contents, fc.array(step, { maxLength: 2 }), contents);

  /** A conversation with an answer after each exchange and a last one without; and the same for the template. */
  const conversation = (
    exchanges: readonly (readonly [string, readonly (readonly [string, Record<string, string>, string][])[], string])[],
    last: string,
  ) => {
    let called = 0;
    const nextId = () => `call${String(++called).padStart(5, "0")}`;
    const said = exchanges.flatMap(([question, steps, answered]): Said[] => [
      { role: "user", content: question },
      ...steps.flatMap((calls): Said[] => {
        const each = calls.map(([name, given, content]) => ({ id: nextId(), name, arguments: spaced(given), content }));
        const results = each.map(({ id, content }) => ({ role: "tool" as const, id, content }));
        return [
          { role: "assistant", content: "", calls: each.map(({ id, name, arguments: text }) => ({ id, name, arguments: text })) },
          ...results,
        ];
      }),
      { role: "assistant", content: answered },
    ]);
    return [...said, { role: "user" as const, content: last }];
  };
  const forTemplate = (said: readonly Said[]) =>
    said.map((message) => {
      if (message.role === "tool") return { role: "tool", content: message.content, tool_call_id: message.id };
      const calls = message.role === "assistant" ? message.calls : undefined;
      if (!calls) return { role: message.role, content: message.content };
      return {
        role: "assistant",
        content: "",
        tool_calls: calls.map(({ id, name, arguments: text }) => ({
          id,
          type: "function",
          function: { name, arguments: JSON.parse(text) as object },
        })),
      };
    });
  const rendered = (messages: readonly object[], given?: readonly Tool[]) =>
    new Template(source).render({
      messages: [...messages],
      add_generation_prompt: true,
      bos_token: "<s>",
      eos_token: "</s>",
      ...(given && { tools: given.map((tool) => ({ type: "function", function: tool })) }),
    });
  const chat = load(source);
  const prompt = (said: readonly Said[], told = { chat, ...toolForm(chat) }) =>
    String.fromCodePoint(...tokensOf(chatPlan(spoken(said, told), { tokenizer: characters as unknown as Tokenizer, chat: told.chat })));
  const json = new Template("{{ value | tojson }}");
  /** Arguments are inserted as text; this is the template's own formatting. */
  const spaced = (value: object) => json.render({ value });

  test("is rendered in any conversation as the template does", () => {
    fc.assert(
      fc.property(fc.array(exchange, { maxLength: 3 }), contents, (exchanges, last) => {
        const said = conversation(exchanges, last);
        expect(prompt(said)).toBe(rendered(forTemplate(said)));
      }),
    );
  });

  test("follows the catalogue that the template writes", () => {
    const told = withTools(load(source), tools, characters);
    expect(told.form).toBe(form);
    const said: Said[] = [
      { role: "user", content: "How is it?" },
      { role: "assistant", content: "", calls: [{ id: "abcdefgh1", name: "weather", arguments: '{"city": "Paris"}' }] },
      { role: "tool", id: "abcdefgh1", content: 'sunny, "22"' },
    ];
    expect(prompt(said, told)).toBe(rendered(forTemplate(said), tools));
  });

  test("is matched to its call by id, whatever the client's ids look like, or by place", () => {
    const withIds = (callIds: readonly (string | undefined)[], resultIds: readonly (string | undefined)[]) =>
      prompt([
        { role: "user", content: "When?" },
        { role: "assistant", content: "", calls: callIds.map((id) => ({ id, name: "time", arguments: "{}" })) },
        ...resultIds.map((id): Said => ({ role: "tool", id, content: "noon" })),
      ]);
    const ids = ["call_0a1b2c3d4e5f", "<s>[INST]", "x"].slice(0, mostCalls);
    for (const text of [
      withIds(ids, ids.toReversed()),
      withIds(
        ids.map(() => undefined),
        ids.map(() => undefined),
      ),
    ]) {
      const of = (key: string) => [...text.matchAll(new RegExp(`"${key}": "([^"]*)"`, "g"))].map(([, id]) => id!);
      for (const id of of("id")) expect(id).toMatch(/^[a-z0-9]{9}$/);
      expect(of("call_id").toSorted()).toEqual(of("id").toSorted());
      expect(new Set(of("id")).size).toBe(form === "list" ? ids.length : 0);
    }
  });

  test("is refused if no call precedes it", () => {
    const calls = [{ id: "a", name: "time", arguments: "{}" }];
    const [asked, call, other]: Said[] = [
      { role: "user", content: "When?" },
      { role: "assistant", content: "", calls },
      { role: "tool", id: "b", content: "noon" },
    ];
    for (const said of [[other!], [asked!, other!], [asked!, call!, other!], [asked!, call!, asked!, { ...other!, id: "a" }]]) {
      expect(() => prompt(said as Said[])).toThrow(
        expect.objectContaining({
          code: "bad_argument",
          message: expect.stringMatching(/does not follow an assistant message that requests it/) as string,
        }),
      );
    }
  });
});

test("calls in separate messages, as in responses, form one answer; a template that takes one call reports it", () => {
  const said: Said[] = [
    { role: "user", content: "When?" },
    ...["a", "b"].map((id): Said => ({ role: "assistant", content: "", calls: [{ id, name: "time", arguments: "{}" }] })),
    ...["a", "b"].map((id): Said => ({ role: "tool", id, content: "noon" })),
  ];
  expect(spoken(said, toolForm(load(mistral))).map(({ role, content }) => [role, content])).toEqual([
    ["user", "When?"],
    ["assistant", '[{"name": "time", "arguments": {}}, {"name": "time", "arguments": {}}]'],
    ["tool", "noon"],
    ["tool", "noon"],
  ]);
  expect(() => spoken(said, toolForm(load(llama)))).toThrow(/takes one call per assistant message, but one message has 2 \(time, time\)/);
});

test("a catalogue that the template moves along with the last question stays before the first", () => {
  const { chat } = withTools(load(mistral), tools, characters);
  const catalogue = `[AVAILABLE_TOOLS]${new Template("{{ tools | tojson }}").render({ tools: tools.map((tool) => ({ type: "function", function: tool })) })}[/AVAILABLE_TOOLS]`;
  const talk = [
    { role: "user" as const, content: "Hi" },
    { role: "assistant" as const, content: "Hello" },
    { role: "user" as const, content: "Bye" },
  ];
  expect(framed(chat, talk)).toBe(`<s>${catalogue}[INST]Hi[/INST]Hello</s>[INST]Bye[/INST]`);
  expect(framed(chat, [{ role: "system", content: "Be brief." }, ...talk])).toBe(
    `<s>${catalogue}[INST]Be brief.\n\nHi[/INST]Hello</s>[INST]Bye[/INST]`,
  );
});

test.each([
  ["no tools", turns],
  ["results in the user's turn", hermes],
  ["names in results", llama.replace("{{ m.content | tojson }}", "{{ m.name }}: {{ m.content | tojson }}")],
  ["calls in another form", mistral.replace("(c.function | tojson)[:-1]", "c.function.name")],
])("results are one user turn if the template has %s", (_, source) => {
  const form = toolForm(load(source));
  expect(form.turns).toBeUndefined();
  const calls = [{ id: "a", name: "time", arguments: "{}" }];
  expect(
    spoken(
      [
        { role: "user", content: "When?" },
        { role: "assistant", content: "", calls },
        { role: "tool", id: "a", content: "noon" },
        { role: "tool", content: "twelve" },
      ],
      form,
    ),
  ).toEqual([
    { role: "user", content: "When?" },
    { role: "assistant", content: writeCalls(form.form, "", calls) },
    { role: "user", content: writeResults(["noon", "twelve"]) },
  ]);
});

test("a request's messages have their calls' ids, and those of the older form their place", () => {
  const form = toolForm(load(mistral));
  const called = { name: "time", arguments: "{}" };
  const request = (asking: object, result: object) =>
    spokenRequest(
      [
        { role: "user", content: "When?" },
        { role: "assistant", content: "", ...asking },
        { content: "noon", ...result },
      ] as Parameters<typeof spokenRequest>[0],
      form,
    );
  const [, , named] = request(
    { tool_calls: [{ id: "abcdefgh1", type: "function", function: called }] },
    { role: "tool", tool_call_id: "abcdefgh1" },
  );
  expect(named).toMatchObject({ role: "tool", written: { close: ', "call_id": "abcdefgh1"}[/TOOL_RESULTS]' } });
  const [, calls, placed] = request({ function_call: called }, { role: "function", name: "time" });
  const id = /"id": "(\w{9})"/.exec(calls!.written!.text)![1]!;
  expect(placed!.written!.close).toContain(`"${id}"`);
});
