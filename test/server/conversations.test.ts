import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, type Model } from "../../engine/index.js";
import { type Embedder, loadEmbedder } from "../../rag/index.js";
import { remove, type Serving, startServing } from "../support/server/serving.js";

type Message = OpenAI.ChatCompletionMessageParam;
type Extended = OpenAI.ChatCompletion & {
  readonly kvsplice: {
    readonly cached_tokens: number;
    readonly computed_tokens: number;
    readonly encoded_tokens: number;
    readonly dropped_exchanges: number;
  };
};

let model: Model;
let embedder: Embedder;
let serving: Serving;

beforeAll(async () => {
  [model, embedder] = await Promise.all([loadModel(), loadEmbedder()]);
  serving = await startServing({ model, embedder });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
  await embedder.close();
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

/** The last token of an answer that was cut off has no KV yet. */
const uncached = (completion: OpenAI.ChatCompletion) => (completion.choices[0]!.finish_reason === "length" ? 1 : 0);

describe("a conversation", () => {
  test("computes only the new message: the whole previous turn is cached, at every turn", async () => {
    const messages = [system, user("Who are you?")];
    let before = await say(serving, messages);
    for (const question of ["Is it cold?", "Which ships pass?"]) {
      messages.push(reply(before), user(question));
      const turn = await say(serving, messages);
      expect(turn.usage!.prompt_tokens_details!.cached_tokens).toBe(before.usage!.total_tokens - uncached(before));
      expect(turn.kvsplice.encoded_tokens).toBe(0);
      before = turn;
    }
  });

  test("gives the same answers as when everything is computed again", async () => {
    const messages = [system, user("What do you see?")];
    messages.push(reply(await say(serving, messages)), user("And at night?"));
    const kept = await say(serving, messages);
    const anew = await startServing({ model, embedder, folder: `${serving.folder}-anew` });
    const computed = await say(anew, messages);
    expect(computed.usage!.prompt_tokens_details!.cached_tokens).toBe(0);
    expect(reply(kept).content).toBe(reply(computed).content);
    await anew.stop();
    remove(anew.folder);
  });

  test("continues from the store after a restart", async () => {
    const messages = [system, user("What is your name?")];
    const first = await startServing({ model, embedder, folder: `${serving.folder}-restarted` });
    const before = await say(first, messages);
    await first.stop();
    const second = await startServing({ model, embedder, folder: first.folder });
    const turn = await say(second, [...messages, reply(before), user("Since when?")]);
    expect(turn.usage!.prompt_tokens_details!.cached_tokens).toBe(before.usage!.total_tokens - uncached(before));
    await second.stop();
    remove(first.folder);
  });

  test("is also remembered when streamed", async () => {
    const messages = [system, user("Do you like storms?")];
    let text = "";
    for await (const { choices } of await serving.client.chat.completions.create({
      model: model.name,
      messages,
      max_tokens: 16,
      stream: true,
    }))
      text += choices[0]?.delta.content ?? "";
    const turn = await say(serving, [...messages, { role: "assistant", content: text }, user("Why?")]);
    const [asked, said] = [await say(serving, messages), turn];
    expect(said.usage!.prompt_tokens_details!.cached_tokens).toBe(asked.usage!.total_tokens - uncached(asked));
  });
});
