import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Model } from "../../engine/index.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

type Message = OpenAI.ChatCompletionMessageParam;
type Extended = OpenAI.ChatCompletion & {
  readonly kvsplice: {
    readonly cached_tokens: number;
    readonly computed_tokens: number;
    readonly encoded_tokens: number;
    readonly dropped_exchanges: number;
  };
};

let serving: Serving & { readonly model: Model };
let model: Model;
beforeAll(async () => {
  serving = await startFakeServing();
  ({ model } = serving);
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
  await model.close();
});

async function say({ client }: Serving, messages: readonly Message[], fields: object = {}): Promise<Extended> {
  return (await client.chat.completions.create({
    model: model.name,
    messages: [...messages],
    max_tokens: 16,
    ...fields,
  })) as OpenAI.ChatCompletion as Extended;
}
const reply = (completion: OpenAI.ChatCompletion): Message => completion.choices[0]!.message;
const user = (content: string): Message => ({ role: "user", content });
const system: Message = { role: "system", content: "You are the keeper of a lighthouse. You answer in one short sentence." };

describe("a conversation", () => {
  test("asked again for another answer, computes only the opening of the answer; so do equal concurrent requests", async () => {
    const messages: Message[] = [
      { role: "system", content: "You know all ships." },
      user(`Which ship is it? ${"It has three masts and a red flag. ".repeat(6)}`),
    ];
    const opens = model.tokenizer.encode(model.chat.generationPrompt, { control: true }).length;
    const together = await Promise.all(
      Array.from({ length: 8 }, (_, seed) => say(serving, messages, { max_tokens: 3, temperature: 1, seed })),
    );
    const computed = together.map(({ kvsplice }) => kvsplice.computed_tokens).sort((a, b) => a - b);
    const { prompt_tokens } = together[0]!.usage!;
    expect(computed.slice(0, -1)).toEqual(Array.from({ length: 7 }, () => opens));
    expect(together.reduce((sum, { kvsplice }) => sum + kvsplice.computed_tokens + kvsplice.encoded_tokens, 0)).toBe(
      prompt_tokens + 7 * opens,
    );
    const again = await say(serving, messages, { max_tokens: 3, temperature: 1, seed: 11 });
    expect(again.kvsplice).toMatchObject({ computed_tokens: opens, encoded_tokens: 0, cached_tokens: prompt_tokens - opens });
  });

  test("whose client drops the oldest exchange computes only the new message", async () => {
    const messages: Message[] = [system];
    for (const question of [
      "Tell me of the storm in March, of the ships that it sank, and of the men that were saved.",
      "And of the storm in May?",
      "Which was worse, and why?",
    ]) {
      messages.push(user(question));
      messages.push(reply(await say(serving, messages, { max_tokens: 40 })));
    }
    const asked = "Who told you?";
    const turn = await say(serving, [system, ...messages.slice(3), user(asked)]);
    expect(turn.kvsplice.encoded_tokens).toBe(0);
    expect(turn.kvsplice.computed_tokens).toBeLessThan(model.tokenizer.encode(asked).length + 20);
    const another = await say(serving, [system, ...messages.slice(3), user(asked)], { user: "somebody else", max_tokens: 2 });
    expect(another.kvsplice.computed_tokens).toBeGreaterThan(100);
  });

  test("over linked documents computes the new question and what that attends to; repeating the request gives the same answer", async () => {
    const documents = [
      { title: "The ferry", text: "The ferry at Dollis crosses the river in four minutes. It carries six cars and a van. ".repeat(3) },
    ];
    const fields = { documents, link: "0.25", max_tokens: 12 };
    const first = user("How long does the ferry at Dollis take to cross the river, and how many cars does it carry on a day in summer?");
    const messages: Message[] = [first, reply(await say(serving, [first], fields)), user("And in winter?")];
    const turn = await say(serving, messages, fields);
    const { recomputed_tokens } = turn.kvsplice as typeof turn.kvsplice & { readonly recomputed_tokens: number };
    expect(recomputed_tokens).toBeGreaterThan(10);
    expect(turn.kvsplice.computed_tokens - recomputed_tokens).toBeLessThan(model.tokenizer.encode("And in winter?").length + 20);
    expect(turn.kvsplice.encoded_tokens).toBe(0);
    const again = await say(serving, messages, fields);
    expect(reply(again)).toEqual(reply(turn));
    expect(again.kvsplice.computed_tokens).toBe(turn.kvsplice.computed_tokens);
    // With another way of linking, the texts do not match the KV of this one.
    const other = await say(serving, messages, { ...fields, link: "none", user: "somebody else" });
    expect(other.kvsplice.computed_tokens).toBeGreaterThan(model.tokenizer.encode(String(first.content)).length);
  });

  test("with the same first message finds it, whatever follows", async () => {
    const long = user("The ferry at Dollis crosses the river in four minutes. It carries six cars. ".repeat(6));
    await say(serving, [long, user("How long does it take?")], { max_tokens: 2 });
    const turn = await say(serving, [long, user("How many cars does it carry?")], { max_tokens: 2 });
    expect(turn.usage!.prompt_tokens_details!.cached_tokens).toBeGreaterThan(model.tokenizer.encode(String(long.content)).length);
    expect(turn.kvsplice.computed_tokens).toBeLessThan(30);
  });

  test("over different documents at each turn is kept once", async () => {
    const { records } = serving.service;
    const messages: Message[] = [];
    for (let i = 0; i < 4; i++) {
      messages.push(user(`Question ${i}: ${"what does the text say of the lighthouse, and of its keeper, ".repeat(6)}and what not?`));
      const documents = [["lighthouse.md#1"], ["ferry.txt#1"], ["bread.md#1"], ["ferry.txt#1", "bread.md#1"]][i];
      const before = records.keptTokens;
      const turn = await say(serving, messages, { documents, max_tokens: 8 });
      messages.push(reply(turn));
      const asked = model.tokenizer.encode(String(messages.at(-2)!.content)).length;
      expect(records.keptTokens - before).toBeLessThan(asked + 8 + 20);
      expect(turn.kvsplice.computed_tokens).toBeLessThan(asked + 30);
    }
  });

  test("longer than the context continues: old turns are dropped, and nothing is recomputed", async () => {
    const contextTokens = 256;
    const small = await startFakeServing({ limits: { contextTokens } });
    const messages: Message[] = [system];
    let last: Extended | undefined;
    for (let turn = 0; turn < 20; turn++) {
      messages.push(user(`The log of day ${turn} says that ${turn + 3} ships passed. Go on.`));
      last = await say(small, messages, { max_tokens: 8 });
      messages.push(reply(last));
      expect(last.usage!.total_tokens).toBeLessThanOrEqual(contextTokens);
      expect(last.usage!.completion_tokens).toBeGreaterThan(0);
      if (turn > 0) expect(last.kvsplice).toMatchObject({ encoded_tokens: 0 });
      if (turn > 0) expect(last.kvsplice.computed_tokens).toBeLessThan(40);
    }
    expect(last!.kvsplice.dropped_exchanges).toBeGreaterThan(10);
    await small.stop();
    remove(small.folder);
    await small.model.close();
  });
});
