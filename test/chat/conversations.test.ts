import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Conversations, Records, type Message, type RecordsOptions, type Turn } from "../../chat/index.js";
import type { Tokenizer } from "../../plan/index.js";
import { isBlockPiece, loadTokenizer, type FreshPiece, type Language } from "../../engine/index.js";

let language: Language;
let folder: string;
let records: Records;
let forgotten: string[];
beforeAll(async () => {
  language = await loadTokenizer();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kvsplice-chat-"));
  forgotten = [];
  records = openRecords();
  onTestFinished(async () => {
    await records.close();
    rmSync(folder, { recursive: true, force: true });
  });
});

const DAY_ms = 86_400_000;

function openRecords(options: Partial<RecordsOptions> = {}): Records {
  return Records.open(join(folder, "conversations.lmdb"), { maxTokens: 100_000, maxAge_ms: DAY_ms, forget: (keys) => forgotten.push(...keys), ...options });
}

function conversations(contextTokens = 2048, tokenizer: Tokenizer = language.tokenizer): Conversations {
  const { chat } = language;
  return new Conversations({ tokenizer, chat, keyOf: ({ tokens }) => createHash("sha256").update(Int32Array.from(tokens)).digest("hex"), contextTokens, records });
}

const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });
const system = (content: string): Message => ({ role: "system", content });

/** As the engine ends an answer: the KV of a token is there once the next one was computed. */
function answer(turn: Turn, tokens: readonly number[], finish: "end" | "length" | "stop" = "end", text = language.tokenizer.decode(tokens)): string {
  const kept = finish === "end" ? tokens : tokens.slice(0, -1);
  const key = turn.keepAnswer(kept);
  if (key !== undefined) records.keep(key, kept.length);
  turn.answered({ text, tokens, finish });
  return text;
}

const keysOf = ({ plan }: Turn) => plan.pieces.map((piece) => (isBlockPiece(piece) ? "opening" : piece.keep));
const tokensOf = ({ plan }: Turn) => plan.pieces.flatMap((piece) => (isBlockPiece(piece) ? piece.block.tokens : piece.tokens));
const encode = (text: string) => language.tokenizer.encode(text);
const rendered = (text: string) => language.tokenizer.encode(text, { control: true });

/** Tokens that are written as no tokenizer would: the text alone does not lead back to them. */
const letters = (text: string) => [...text].flatMap((letter) => encode(letter));

describe("a turn", () => {
  test("of a new conversation is the chat template's own prompt", () => {
    const messages = [system("Be kind."), user("Hello"), assistant("Hi"), user("How are you?")];
    const { chat } = language;
    const said = messages.map(({ role, content }, index) => {
      const { open, close } = chat.frame(role, messages[index - 1]?.role);
      return open + content + close;
    });
    expect(tokensOf(conversations().continue(messages, { answerTokens: 10 }))).toEqual(rendered(said.join("") + chat.generationPrompt));
  });

  test("lays its pieces side by side from position 0, the last of them fresh", () => {
    const { plan } = conversations().continue([system("Be kind."), user("Hello"), assistant("Hi"), user("Bye")], { answerTokens: 10 });
    let at = 0;
    for (const piece of plan.pieces) {
      expect(piece.at).toBe(at);
      at += isBlockPiece(piece) ? piece.block.tokens.length : piece.tokens.length;
    }
    expect(isBlockPiece(plan.pieces.at(-1)!)).toBe(false);
  });

  test("after an answer of ours begins with all that was laid and said, token for token", () => {
    const chats = conversations();
    const first = chats.continue([user("Hello")], { answerTokens: 10 });
    const said = letters("Hi there");
    const text = answer(first, said);
    const second = chats.continue([user("Hello"), assistant(text), user("Bye")], { answerTokens: 10 });
    const before = [...tokensOf(first), ...said];
    expect(tokensOf(second).slice(0, before.length)).toEqual(before);
    expect(keysOf(second).slice(0, -2)).toEqual(keysOf(first));
  });

  test.each(["length", "stop"] as const)("after an answer that ended by %s computes its last token with the next question", (finish) => {
    const chats = conversations();
    const first = chats.continue([user("Hello")], { answerTokens: 10, stop: ["!"] });
    const said = encode("Hi there friend");
    answer(first, finish === "stop" ? [...said, ...encode("!")] : said, finish, "Hi there friend");
    const second = chats.continue([user("Hello"), assistant("Hi there friend"), user("Bye")], { answerTokens: 10 });
    const kept = (second.plan.pieces.at(-2) as FreshPiece).tokens;
    const rest = (second.plan.pieces.at(-1) as FreshPiece).tokens;
    expect([...kept, ...rest].slice(0, said.length)).toEqual(said);
    expect(kept).toEqual(finish === "stop" ? said : said.slice(0, -1));
  });

  test("does not keep an answer whose tokens say more than the client was given", () => {
    const chats = conversations();
    const first = chats.continue([user("Hello")], { answerTokens: 10, stop: ["END"] });
    expect(first.keepAnswer(encode("Hi END of"))).toBeUndefined();
    first.answered({ text: "Hi ", tokens: encode("Hi END of it"), finish: "stop" });
    const second = chats.continue([user("Hello"), assistant("Hi "), user("Bye")], { answerTokens: 10 });
    expect(language.tokenizer.decode(tokensOf(second))).not.toContain("END");
  });

  test("has other keys where anything before it is another", () => {
    const chats = conversations();
    const last = (...messages: Message[]) => keysOf(chats.continue(messages, { answerTokens: 10 })).at(-1);
    const keys = [
      last(user("a"), assistant("b"), user("c")),
      last(user("a"), assistant("x"), user("c")),
      last(user("x"), assistant("b"), user("c")),
      last(system("s"), user("a"), assistant("b"), user("c")),
      last(user("c")),
    ];
    expect(new Set(keys).size).toBe(keys.length);
    expect(last(user("a"), assistant("b"), user("c"))).toBe(keys[0]);
  });

  test("of a changed history goes on from what is the same", () => {
    const chats = conversations();
    const first = chats.continue([user("Hello")], { answerTokens: 10 });
    answer(first, letters("Hi"));
    const second = chats.continue([user("Hello"), assistant("Hi"), user("One")], { answerTokens: 10 });
    answer(second, letters("Two"));
    const other = chats.continue([user("Hello"), assistant("Hi"), user("Three")], { answerTokens: 10 });
    expect(keysOf(other).slice(0, -1)).toEqual(keysOf(second).slice(0, -1));
    expect(keysOf(other).at(-1)).not.toBe(keysOf(second).at(-1));
  });

  test("goes on after the records were closed and opened again", async () => {
    const first = conversations().continue([user("Hello")], { answerTokens: 10 });
    const said = letters("Hi there");
    answer(first, said);
    await records.close();
    records = openRecords();
    const second = conversations().continue([user("Hello"), assistant("Hi there"), user("Bye")], { answerTokens: 10 });
    expect(tokensOf(second).slice(0, tokensOf(first).length + said.length)).toEqual([...tokensOf(first), ...said]);
  });
});

describe("a conversation that outgrows the context", () => {
  const CONTEXT = 200;

  /** Turns of one conversation, each with its plan. */
  function talk(chats: Conversations, turns: number, opening: readonly Message[]): Turn[] {
    const messages = [...opening];
    return Array.from({ length: turns }, (_, i) => {
      messages.push(user(`Question number ${i}, about the weather of day ${i}?`));
      const turn = chats.continue(messages, { answerTokens: 20 });
      messages.push(assistant(answer(turn, letters(`Rain ${i}`))));
      return turn;
    });
  }

  test.each([
    ["a system message", [system("You tell the weather.")]],
    ["the template's own opening", []],
  ])("keeps %s, drops the oldest, and computes nothing twice", (_, opening) => {
    const turns = talk(conversations(CONTEXT), 40, opening);
    const computed = new Set<string>();
    for (const turn of turns) {
      expect(tokensOf(turn).length).toBeLessThanOrEqual(CONTEXT - 20);
      expect(turn.plan.pieces[0]).toEqual(turns[0]!.plan.pieces[0]);
      const fresh = turn.plan.pieces.filter((piece): piece is FreshPiece => !isBlockPiece(piece));
      const unknown = fresh.filter(({ keep }) => !computed.has(keep!));
      expect(unknown).toEqual([turn.plan.pieces.at(-1)]);
      computed.add(unknown[0]!.keep!);
      computed.add(turn.keepAnswer(letters(`Rain ${turns.indexOf(turn)}`))!);
    }
    expect(turns.at(-1)!.dropped).toBeGreaterThan(30);
  });

  test("has the newest exchanges, whole, in their order", () => {
    const turn = talk(conversations(CONTEXT), 40, []).at(-1)!;
    const text = language.tokenizer.decode(tokensOf(turn));
    const held = [...text.matchAll(/Question number (\d+),/g)].map(([, number]) => Number(number));
    expect(held).toEqual(Array.from({ length: 40 - turn.dropped }, (_, i) => turn.dropped + i));
    for (const number of held.slice(0, -1)) expect(text).toContain(`Rain ${number}`);
  });

  test("that nobody remembers is laid out from its end alone", () => {
    const messages = Array.from({ length: 101 }, (_, i) => (i % 2 === 0 ? user(`Question ${i}?`) : assistant(`Answer ${i}.`)));
    const turn = conversations(CONTEXT).continue(messages, { answerTokens: 20 });
    expect(turn.dropped).toBeGreaterThan(20);
    expect(tokensOf(turn).length).toBeLessThanOrEqual(CONTEXT - 20);
    expect(language.tokenizer.decode(tokensOf(turn))).toContain("Answer 99.");
  });

  test("is refused where its last message alone does not fit, with the counts", () => {
    const { tokenizer } = language;
    const message = "word ".repeat(300);
    expect(() => conversations(CONTEXT).continue([user(message)], { answerTokens: 20 })).toThrow(expect.objectContaining({ code: "too_long", message: expect.stringMatching(/holds 200 tokens.* answer may take 20\./) }));
    expect(tokenizer.encode(message).length).toBeGreaterThan(CONTEXT);
  });
});

describe("a text that no context holds", () => {
  const CONTEXT = 200;
  const huge = "word ".repeat(200_000);

  /** Characters that the tokenizer reads for one turn. */
  function readFor(messages: Parameters<Conversations["continue"]>[0]): { read: number; dropped: number | undefined } {
    let read = 0;
    const tokenizer: Tokenizer = {
      ...language.tokenizer,
      begin: [],
      end: [],
      decode: (ids, options) => language.tokenizer.decode(ids, options),
      encode: (text, options) => ((read += text.length), language.tokenizer.encode(text, options)),
      read: (text, options) => {
        const reading = language.tokenizer.read(text, options);
        return { ids: reading.ids, ends: reading.ends, advance: (characters) => ((read += characters), reading.advance(characters)) };
      },
    };
    try {
      return { dropped: conversations(CONTEXT, tokenizer).continue(messages, { answerTokens: 20 }).dropped, read };
    } catch (error) {
      expect(error).toMatchObject({ code: "too_long", message: expect.stringContaining("the last message more than") });
      return { read, dropped: undefined };
    }
  }

  test("is refused as the last message, and dropped as an older one, and read no further than that takes", () => {
    const refused = readFor([user(huge)]);
    expect(refused.dropped).toBeUndefined();
    const shortened = readFor([user(huge), assistant("Yes."), user("And then?")]);
    expect(shortened.dropped).toBe(1);
    const answered = readFor([user("Hi."), assistant(huge), user("And then?")]);
    expect(answered.dropped).toBe(1);
    for (const { read } of [refused, shortened, answered]) expect(read).toBeLessThan(50_000);
  });
});

describe("records", () => {
  const segment = (key: string, tokens: number) => ({ key, tokens: Array.from({ length: tokens }, (_, i) => i) });
  const window = (...segments: ReturnType<typeof segment>[]) => ({ exchanges: [segments], tail: [] });

  /** As when an answer is given: its segments are put, then its window is remembered. */
  function keepAndRemember(key: string, ...segments: ReturnType<typeof segment>[]): void {
    for (const each of segments) records.keep(each.key, each.tokens.length);
    records.remember(key, window(...segments));
  }

  test("count what was kept, and nothing that was not", () => {
    records.remember("a", window(segment("1", 40)));
    records.use(["1", "2"]);
    expect(records.keptTokens).toBe(0);
    records.keep("1", 40);
    expect(records.keptTokens).toBe(40);
  });

  test("let go of what alone is more than their budget at once", async () => {
    await records.close();
    records = openRecords({ maxTokens: 100 });
    records.keep("1", 101);
    expect(forgotten).toEqual(["1"]);
    expect(records.keptTokens).toBe(0);
  });

  test("let go of what was used longest ago, however short the time between uses is", async () => {
    await records.close();
    records = openRecords({ maxTokens: 100 });
    records.keep("in every request", 40);
    await later();
    records.keep("once", 40);
    await later();
    records.use(["in every request"]);
    await later();
    records.keep("new", 40);
    expect(forgotten).toEqual(["once"]);
  });

  test("keep no more KV than their budget: what was used longest ago goes first", async () => {
    await records.close();
    records = openRecords({ maxTokens: 100 });
    keepAndRemember("a", segment("1", 40));
    await later();
    keepAndRemember("b", segment("2", 40));
    expect(forgotten).toEqual([]);
    await later();
    keepAndRemember("c", segment("3", 40));
    expect(forgotten).toEqual(["1"]);
    expect(records.keptTokens).toBe(80);
    expect(records.window("a")).toEqual(window(segment("1", 40))); // its tokens are known still: they lead to the same answer
  });

  test("count a segment that many windows share once", () => {
    keepAndRemember("a", segment("1", 40));
    keepAndRemember("b", segment("1", 40), segment("2", 10));
    expect(records.keptTokens).toBe(50);
  });

  test("let go of what is older than their age", async () => {
    keepAndRemember("a", segment("1", 40));
    await records.close();
    await later();
    records = openRecords({ maxAge_ms: 1 });
    expect(forgotten).toEqual(["1"]);
    expect(records.window("a")).toBeUndefined();
    expect(records.keptTokens).toBe(0);
  });

  test("that are no records are refused with what to do", async () => {
    await records.close();
    writeFileSync(join(folder, "conversations.lmdb"), "x".repeat(10_000));
    expect(() => openRecords()).toThrow(expect.objectContaining({ code: "bad_store", message: expect.stringContaining("Delete the file") }));
    rmSync(join(folder, "conversations.lmdb"));
    records = openRecords();
  });

  /** Until the clock shows another millisecond. */
  const later = () => new Promise((wake) => setTimeout(wake, 5));
});
