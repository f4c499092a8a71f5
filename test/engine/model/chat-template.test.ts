import { Template } from "@huggingface/jinja";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createChatTemplate, plainChatTemplate } from "../../../engine/model/chat-template.js";
import type { ChatTemplate, Role } from "../../../plan/index.js";

type Message = { readonly role: Role; readonly content: string };

const load = (source: string, addBos = false) => createChatTemplate({ source, bos: "<s>", eos: "</s>", addBos });

/** A conversation assembled from frames, up to where the model answers. */
function framed(chat: ChatTemplate, messages: readonly Message[]): string {
  const said = messages.map(({ role, content }, i) => {
    const { open, close } = chat.frame(role, messages[i - 1]?.role);
    return open + chat.content(role, content) + close;
  });
  return said.join("") + chat.generationPrompt;
}

function rendered(source: string, messages: readonly Message[], variables: Record<string, unknown> = {}): string {
  return new Template(source).render({
    messages: [...messages],
    add_generation_prompt: true,
    bos_token: "<s>",
    eos_token: "</s>",
    ...variables,
  });
}

const turns = `{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`;
const TEMPLATES: Record<string, string> = {
  "turns between tokens": turns,
  "a default system message": `{% if messages[0].role != 'system' %}<|system|>Be helpful.<|end|>\n{% endif %}${turns}`,
  "a preamble before the system message": `{{ bos_token }}<|system|>Today.\n{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}<|end|>\n${turns}`,
  "the system message within the first user's turn": `{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}{% for m in messages %}<|{{ m.role }}|>{{ first if loop.first else '' }}{{ m.content | trim }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`,
  "trimmed content": turns.replace("m.content", "m.content | trim"),
  "no header before an answer": `{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{{ eos_token }}{% else %}[{{ m.role }}]{{ m.content }}[/{{ m.role }}]{% endif %}{% endfor %}`,
  "an end token after a conversation that needs no answer": `${turns}{% if not add_generation_prompt %}{{ eos_token }}{% endif %}`,
};

const contents = fc.string({ unit: "grapheme-ascii", minLength: 1 }).filter((text) => text.trim() !== "");
const conversations = fc
  .tuple(fc.option(contents, { nil: undefined }), fc.array(fc.tuple(contents, contents), { maxLength: 3 }), contents)
  .map(([system, exchanges, last]): Message[] => [
    ...(system === undefined ? [] : [{ role: "system" as const, content: system.trim() }]),
    ...exchanges.flatMap(([question, answer]): Message[] => [
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ]),
    { role: "user", content: last },
  ]);

describe.each(Object.entries(TEMPLATES))("frames of a template with %s", (_, source) => {
  test("assemble any conversation exactly as the template renders it", () => {
    const chat = load(source);
    fc.assert(fc.property(conversations, (messages) => framed(chat, messages) === rendered(source, messages)));
  });
});

describe("a template without a place for the system message", () => {
  const refusing = `{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}${turns}`;
  const inTheLast = `{% if messages[0].role == 'system' %}{% set s = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}{% for m in messages %}<|{{ m.role }}|>{{ s if loop.last else '' }}{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`;
  test.each([refusing, inTheLast])("gets it at the beginning of the user's first turn", (source) => {
    const instructed: Message[] = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello" },
      { role: "user", content: "Bye" },
    ];
    const folded: Message[] = [{ role: "user", content: "Be brief.\n\nHi" }, ...instructed.slice(2)];
    expect(framed(load(source), instructed)).toBe(rendered(source, folded));
  });
});

describe("a model that thinks", () => {
  const thinking = turns.replace(
    "<|assistant|>{% endif %}",
    "<|assistant|>{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
  );
  test("is told not to, if the template has a switch", () => {
    const chat = load(thinking);
    expect(chat.generationPrompt).toBe("<|assistant|><think>\n\n</think>\n\n");
    expect(chat.thought).toEqual({ begin: "<think>", end: "</think>", begun: false });
  });
  test("has already begun a thought, if the template always begins one", () => {
    expect(load(`${turns}{% if add_generation_prompt %}<think>\n{% endif %}{# </think> #}`).thought).toEqual({
      begin: "<think>",
      end: "</think>",
      begun: true,
    });
  });
  test("answers in the channel of past answers", () => {
    const channels = `{% for m in messages %}<|start|>{{ m.role }}{{ '<|channel|>final' if m.role == 'assistant' else '' }}<|message|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}`;
    expect(load(channels).generationPrompt).toBe("<|start|>assistant<|channel|>final<|message|>");
  });
});

test("a begin token added by the tokenizer appears once, before the first message", () => {
  expect(load(turns, true).frame("user", undefined).open).toBe("<s><|user|>");
  expect(load(`{{ bos_token }}${turns}`, true).frame("user", undefined).open).toBe("<s><|user|>");
  expect(load(turns, true).frame("user", "assistant").open).toBe("<|user|>");
});

describe("a template is refused, with the cause,", () => {
  test.each([
    ["that cannot be parsed", "{% for %}", /cannot be parsed/],
    ["that does not render a conversation", "{{ raise_exception('tools alone') }}", /does not render a conversation of user: tools alone/],
    ["that leaves content out", "{% for m in messages %}{{ m.role }}{% endfor %}", /message 1 appears nowhere/],
    ["that writes content twice", "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", /message 1 appears more than once/],
    ["that reverses a conversation", "{% for m in messages | reverse %}{{ m.content }}\n{% endfor %}", /message 2 appears out of order/],
    [
      "that numbers messages",
      "{% for m in messages %}{{ loop.index }}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
      /messages cannot be separated/,
    ],
  ])("%s", (_, source, cause) => {
    expect(() => load(source)).toThrow(cause);
    expect(() => load(source)).toThrow(expect.objectContaining({ code: "bad_model" }));
  });
});

test("a model without a template gets named turns, and the next turn's name ends an answer", () => {
  const chat = plainChatTemplate("<s>");
  const messages: Message[] = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello" },
    { role: "user", content: "Bye" },
  ];
  expect(framed(chat, messages)).toBe("<s>Be brief.\n\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:");
  expect(chat.stop).toEqual(["\nUser:"]);
});
