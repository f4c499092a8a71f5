import { Redis } from "ioredis";
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Model } from "../../engine/index.js";
import { fakeEmbedder } from "../support/rag/fakes.js";
import { hasRedis, type RedisServer, startRedis } from "../support/redis-server.js";
import { wordyModel } from "../support/server/fake-serving.js";
import { remove, type Serving, type ServingOptions, startServing } from "../support/server/serving.js";

type Message = OpenAI.ChatCompletionMessageParam;
type Told = {
  readonly cached_tokens: number;
  readonly computed_tokens: number;
  readonly dropped_exchanges: number;
  readonly conversation?: { readonly turn: number; readonly beside?: number };
};
type Turn = { readonly reply: Message; readonly told: Told; readonly affinity: string | null };

const user = (content: string): Message => ({ role: "user", content });
const QUESTIONS = ["Who are you?", "Is it cold?", "Which ships pass?", "And at night?", "Who came before you?", "Is there a boat?"];

describe.skipIf(!hasRedis)("servers that share conversations through Redis", () => {
  let redis: RedisServer;
  let model: Model;
  let [a, b, alone]: Serving[] = [];
  const start = async (options: Partial<ServingOptions> = {}) =>
    startServing({ model, embedder: fakeEmbedder(), redis: redis.url, ...options });
  beforeAll(async () => {
    redis = await startRedis();
    ({ model } = await wordyModel());
    // A short context that conversations outgrow, so that the stored KV has seen more than is sent.
    const limits = { contextTokens: 160 };
    [a, b] = [await start({ limits }), await start({ limits })];
    alone = await startServing({ model, embedder: fakeEmbedder(), limits });
  });
  afterAll(async () => {
    for (const each of [a, b, alone]) {
      await each!.stop();
      remove(each!.folder);
    }
    await redis.stop();
    await model.close();
  });

  async function say({ client }: Serving, messages: readonly Message[], affinity?: string): Promise<Turn> {
    const { data, response } = await client.chat.completions
      .create(
        { model: model.name, messages: [...messages], max_tokens: 16 },
        affinity === undefined ? {} : { headers: { "x-kvsplice-affinity": affinity } },
      )
      .withResponse();
    return {
      reply: data.choices[0]!.message,
      told: (data as unknown as { kvsplice: Told }).kvsplice,
      affinity: response.headers.get("x-kvsplice-affinity"),
    };
  }

  /** A conversation whose turns are answered by these servers alternately. */
  async function converse(servers: readonly Serving[], system: string): Promise<Turn[]> {
    const messages: Message[] = [{ role: "system", content: system }];
    const turns: Turn[] = [];
    for (const [i, question] of QUESTIONS.entries()) {
      messages.push(user(question));
      const turn = await say(servers[i % servers.length]!, messages, turns[0]?.affinity ?? undefined);
      messages.push(turn.reply);
      turns.push(turn);
    }
    return turns;
  }

  test("answer alternate turns as a single server would, and compute only the new message", async () => {
    const system = "You keep a lighthouse.";
    const [one, several] = [await converse([alone!], system), await converse([a!, b!], system)];
    expect(several.map(({ reply }) => reply.content)).toEqual(one.map(({ reply }) => reply.content));
    expect(several.map(({ told }) => told.computed_tokens)).toEqual(one.map(({ told }) => told.computed_tokens));
    expect(several.at(-1)!.told.dropped_exchanges).toBeGreaterThan(0);
    expect(several.map(({ told }) => told.conversation)).toEqual(QUESTIONS.map((_, i) => ({ turn: i + 1 })));
    expect(one[0]!.told.conversation).toBeUndefined();
  });

  test("continue when another was lost between two turns, even with an empty folder", async () => {
    const system = "You are a ferryman.";
    const lost = await start({ limits: { contextTokens: 160 } });
    const messages: Message[] = [{ role: "system", content: system }];
    for (const question of QUESTIONS.slice(0, 5)) {
      messages.push(user(question));
      messages.push((await say(lost, messages)).reply);
    }
    messages.push(user(QUESTIONS[5]!));
    const next = await say(b!, messages);
    const one = await converse([alone!], system);
    expect(next.reply).toEqual(one[5]!.reply);
    expect(next.told.computed_tokens).toBe(one[5]!.told.computed_tokens);
    await lost.stop();
    remove(lost.folder);
  });

  test("give two concurrent turns one order, and tell the client which was first", async () => {
    const opened = [user("What is your name?")];
    const first = await say(a!, opened);
    const [left, right] = [
      [...opened, first.reply, user("Since when?")],
      [...opened, first.reply, user("And your age?")],
    ];
    const [one, other] = await Promise.all([say(a!, left, first.affinity!), say(b!, right, first.affinity!)]);
    const [earlier, later] = [one, other].toSorted((x, y) => x.told.conversation!.turn - y.told.conversation!.turn) as [Turn, Turn];
    expect(earlier.told.conversation).toEqual({ turn: 2 });
    expect(later.told.conversation).toEqual({ turn: 3, beside: 2 });
    // The same turn again (from a client that got no answer) already has its place.
    expect((await say(b!, left, first.affinity!)).told.conversation).toEqual(one.told.conversation);
    // Either can be continued.
    expect((await say(a!, [...right, other.reply, user("Really?")], first.affinity!)).told.conversation).toEqual({ turn: 4 });
  });

  test("keep clients' orders separate", async () => {
    const first = await say(a!, [user("Are you there?")]);
    const stranger = await a!.client.chat.completions.create(
      { model: model.name, messages: [user("Are you there?"), first.reply, user("Hm?")], max_tokens: 4, user: "stranger" },
      { headers: { "x-kvsplice-affinity": first.affinity! } },
    );
    expect((stranger as unknown as { kvsplice: Told }).kvsplice.conversation).toEqual({ turn: 1 });
  });

  test("do not use incomplete records, or records with tokens that the model does not have", async () => {
    const messages = [user("What do you see from up there?")];
    messages.push((await say(a!, messages)).reply, user("And below?"));
    const client = new Redis(redis.url);
    onTestFinished(() => client.disconnect());
    for (const key of await client.keys("kvsplice:chat:window:*")) {
      const record = (await client.get(key))!;
      await client.set(key, key.charCodeAt(key.length - 1) % 2 ? record.slice(1) : record.replace(/"tail":\[/, '"tail":[999999999,'));
    }
    const turn = await say(b!, messages);
    expect(turn.reply.content).not.toBe("");
    // The answer was recomputed from its text; the server that gave it knows its tokens.
    expect(turn.told.computed_tokens).toBeGreaterThan((await say(a!, messages)).told.computed_tokens + 8);
  });

  test("apply --chat-tokens to the KV of all servers together, not of each", async () => {
    const small = await Promise.all([start({ chatTokens: 120 }), start({ chatTokens: 120 })]);
    for (const [i, word] of ["one", "two", "three", "four", "five", "six"].entries())
      await say(small[i % 2]!, [user(`Tell me of ship number ${word}.`)]);
    const client = new Redis(redis.url);
    onTestFinished(() => client.disconnect());
    expect(Number(await client.hget("kvsplice:chat:tokens", ""))).toBeLessThanOrEqual(120);
    for (const each of small) {
      await each.stop();
      remove(each.folder);
    }
  });

  test("find each other's responses by id, and delete them together", async () => {
    const respond = (serving: Serving, body: object) =>
      fetch(`${serving.url}/v1/responses`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: model.name, max_output_tokens: 8, ...body }),
      });
    const first = (await (await respond(a!, { input: "Good morning." })).json()) as { id: string };
    const next = await respond(b!, { input: "And good night.", previous_response_id: first.id });
    expect(next.status).toBe(200);
    expect(((await next.json()) as { kvsplice: Told }).kvsplice.cached_tokens).toBeGreaterThan(0);
    const third = (await (await respond(a!, { input: "Hello." })).json()) as { id: string };
    expect((await fetch(`${a!.url}/v1/responses/${third.id}`, { method: "DELETE" })).status).toBe(200);
    expect((await fetch(`${b!.url}/v1/responses/${third.id}`)).status).toBe(404);
  });

  test("continue separately while Redis is unreachable, and report no order", async () => {
    const own = await startRedis();
    const serving = await start({ redis: own.url });
    const messages = [user("Is the lamp lit?")];
    const first = await say(serving, messages);
    await own.stop();
    const turn = await say(serving, [...messages, first.reply, user("Still?")], first.affinity!);
    expect(turn.told.cached_tokens).toBeGreaterThan(0);
    expect(turn.told.conversation).toBeUndefined();
    await serving.stop();
    remove(serving.folder);
  });
});
