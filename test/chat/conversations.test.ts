import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open } from "lmdb";
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import {
  type ContinueOptions,
  ConversationRecords,
  type ConversationRecordsOptions,
  Conversations,
  type Message,
  namesOf,
  type Setting,
  type Turn,
} from "../../chat/index.js";
import { type BlockPiece, type FreshPiece, isBlockPiece, type Language, loadTokenizer } from "../../engine/index.js";
import type { Tokenizer } from "../../plan/index.js";

let language: Language;
let folder: string;
let records: ConversationRecords;
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

function openRecords(options: Partial<ConversationRecordsOptions> = {}): ConversationRecords {
  return ConversationRecords.open(join(folder, "conversations.lmdb"), {
    maxTokens: 100_000,
    maxAge_ms: DAY_ms,
    forget: (keys) => forgotten.push(...keys),
    ...options,
  });
}

function conversations(contextTokens = 2048, tokenizer: Tokenizer = language.tokenizer): Conversations {
  const { chat } = language;
  return new Conversations({
    tokenizer,
    chat,
    keyOf: ({ tokens }) => createHash("sha256").update(Int32Array.from(tokens)).digest("hex"),
    contextTokens,
    records,
  });
}

const user = (content: string) => ({ role: "user" as const, content });
const assistant = (content: string) => ({ role: "assistant" as const, content });
const system = (content: string) => ({ role: "system" as const, content });

/** Ends an answer like the engine: a token's KV states exist once the next token has been computed. */
function answer(
  turn: Turn,
  tokens: readonly number[],
  finish: "end" | "length" | "stop" = "end",
  text = language.tokenizer.decode(tokens),
): string {
  const kept = finish === "end" ? tokens : tokens.slice(0, -1);
  for (const piece of turn.plan.pieces) if (!isBlockPiece(piece) && piece.keep !== undefined) records.keep(piece.keep, piece.tokens.length);
  const key = turn.keepAnswer(kept);
  const last = turn.plan.pieces.at(-1) as FreshPiece;
  if (key !== undefined) records.keep(key, kept.length + (last.keep === undefined ? last.tokens.length : 0));
  turn.answered({ text, tokens, finish });
  return text;
}

/** Keys of the KV states of each message and answer in a turn. */
const keysOf = ({ plan }: Turn) => plan.pieces.flatMap((piece) => (isBlockPiece(piece) ? [] : (piece.keep ?? [])));
const tokensOf = ({ plan }: Turn) => plan.pieces.flatMap((piece) => (isBlockPiece(piece) ? piece.block.tokens : piece.tokens));
const encode = (text: string) => language.tokenizer.encode(text);
const rendered = (text: string) => language.tokenizer.encode(text, { control: true });

/** Tokens that no tokenizer would produce: they cannot be recovered from the text. */
const letters = (text: string) => [...text].flatMap((letter) => encode(letter));

describe("a turn", () => {
  test("in a new conversation is the chat template's own prompt", () => {
    const messages = [system("Be kind."), user("Hello"), assistant("Hi"), user("How are you?")];
    const { chat } = language;
    const said = messages.map(({ role, content }, index) => {
      const { open, close } = chat.frame(role, messages[index - 1]?.role);
      return open + content + close;
    });
    expect(tokensOf(conversations().continue(messages, { answerTokens: 10 }))).toEqual(rendered(said.join("") + chat.generationPrompt));
  });

  test("places its pieces side by side from position 0, the last of them fresh", () => {
    const { plan } = conversations().continue([system("Be kind."), user("Hello"), assistant("Hi"), user("Bye")], { answerTokens: 10 });
    let at = 0;
    for (const piece of plan.pieces) {
      expect(piece.at).toBe(at);
      at += isBlockPiece(piece) ? piece.block.tokens.length : piece.tokens.length;
    }
    expect(isBlockPiece(plan.pieces.at(-1)!)).toBe(false);
  });

  test("after an answer of ours begins with the whole former prompt and answer, token for token", () => {
    const chats = conversations();
    const first = chats.continue([user("Hello")], { answerTokens: 10 });
    const said = letters("Hi there");
    const text = answer(first, said);
    const second = chats.continue([user("Hello"), assistant(text), user("Bye")], { answerTokens: 10 });
    const before = [...tokensOf(first), ...said];
    expect(tokensOf(second).slice(0, before.length)).toEqual(before);
    expect(keysOf(second).slice(0, -1)).toEqual([...keysOf(first), first.keepAnswer(said)]);
  });

  test("places what opens the answer separately, without a key: its KV states are kept with the answer's", () => {
    const opens = rendered(language.chat.generationPrompt);
    const first = conversations().continue([user("Hello")], { answerTokens: 10 });
    expect(first.plan.pieces.at(-1)).toEqual({ tokens: opens, at: tokensOf(first).length - opens.length });
    answer(first, letters("Hi there"));
    const second = conversations().continue([user("Hello"), assistant("Hi there"), user("Bye")], { answerTokens: 10 });
    expect((second.plan.pieces.at(-3) as FreshPiece).tokens).toEqual([...opens, ...letters("Hi there")]);
  });

  test("after calls of ours continues from their tokens, with results in the template's own turns, which differ by id", () => {
    const chats = conversations();
    const written: Message = {
      role: "assistant",
      content: '[{"name": "time"}]',
      written: { open: "<|im_end|>", text: '[{"name": "time", "id": "1"}]', close: "" },
    };
    const result = (id: string, content = "noon"): Message => ({
      role: "tool",
      content,
      written: { open: "<|im_start|>", text: `"${content}"`, close: `${id}<|im_end|>` },
    });
    const first = chats.continue([user("When?")], { answerTokens: 10 });
    const said = letters(written.content);
    answer(first, said);
    const second = chats.continue([user("When?"), written, result("a")], { answerTokens: 10 });
    expect(keysOf(second).slice(0, -1)).toEqual([...keysOf(first), first.keepAnswer(said)]);
    const behind = [
      ...rendered(language.chat.frame("assistant", "user").close),
      ...rendered("<|im_start|>"),
      ...encode('"noon"'),
      ...rendered(`a<|im_end|>${language.chat.generationPrompt}`),
    ];
    expect(tokensOf(second)).toEqual([...tokensOf(first), ...said, ...behind]);
    answer(second, letters("At noon"));
    const third = (id: string) =>
      keysOf(chats.continue([user("When?"), written, result(id), assistant("At noon"), user("Thanks")], { answerTokens: 10 }));
    expect(third("a").slice(0, -1)).toEqual([...keysOf(second), second.keepAnswer(letters("At noon"))]);
    expect(third("b")).not.toContain(second.keepAnswer(letters("At noon")));
  });

  test("after calls that were not ours writes them as the template does", () => {
    const written: Message = { role: "assistant", content: "[]", written: { open: "<|im_end|>", text: "[1]", close: "" } };
    const { open, close } = language.chat.frame("user", undefined);
    const begin = rendered(`${language.chat.generationPrompt}<|im_end|>`);
    const prompt = tokensOf(conversations().continue([user("When?"), written], { answerTokens: 10 }));
    expect(prompt).toEqual([...rendered(open), ...encode("When?"), ...rendered(close), ...begin, ...encode("[1]")]);
  });

  test.each(["length", "stop"] as const)("after an answer that ended by %s computes its last token with the next question", (finish) => {
    const chats = conversations();
    const first = chats.continue([user("Hello")], { answerTokens: 10, stop: ["!"] });
    const said = encode("Hi there friend");
    answer(first, finish === "stop" ? [...said, ...encode("!")] : said, finish, "Hi there friend");
    const second = chats.continue([user("Hello"), assistant("Hi there friend"), user("Bye")], { answerTokens: 10 });
    const opens = (first.plan.pieces.at(-1) as FreshPiece).tokens;
    const kept = (second.plan.pieces.at(-3) as FreshPiece).tokens;
    const rest = (second.plan.pieces.at(-2) as FreshPiece).tokens;
    expect([...kept, ...rest].slice(0, opens.length + said.length)).toEqual([...opens, ...said]);
    expect(kept).toEqual([...opens, ...(finish === "stop" ? said : said.slice(0, -1))]);
  });

  test("does not keep an answer whose tokens contain more than the client received", () => {
    const chats = conversations();
    const first = chats.continue([user("Hello")], { answerTokens: 10, stop: ["END"] });
    expect(first.keepAnswer(encode("Hi END of"))).toBeUndefined();
    first.answered({ text: "Hi ", tokens: encode("Hi END of it"), finish: "stop" });
    const second = chats.continue([user("Hello"), assistant("Hi "), user("Bye")], { answerTokens: 10 });
    expect(language.tokenizer.decode(tokensOf(second))).not.toContain("END");
  });

  test("has different keys if anything before it differs", () => {
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

  test("in a changed history continues from the unchanged part", () => {
    const chats = conversations();
    const first = chats.continue([user("Hello")], { answerTokens: 10 });
    answer(first, letters("Hi"));
    const second = chats.continue([user("Hello"), assistant("Hi"), user("One")], { answerTokens: 10 });
    answer(second, letters("Two"));
    const other = chats.continue([user("Hello"), assistant("Hi"), user("Three")], { answerTokens: 10 });
    expect(keysOf(other).slice(0, -1)).toEqual(keysOf(second).slice(0, -1));
    expect(keysOf(other).at(-1)).not.toBe(keysOf(second).at(-1));
  });

  test("continues after the records were closed and opened again", async () => {
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
      const unknown = keysOf(turn).filter((key) => !computed.has(key));
      expect(unknown).toEqual([keysOf(turn).at(-1)]);
      computed.add(unknown[0]!);
      computed.add(turn.keepAnswer(letters(`Rain ${turns.indexOf(turn)}`))!);
    }
    expect(turns.at(-1)!.dropped).toBeGreaterThan(30);
  });

  test("keeps the newest exchanges, complete and in order", () => {
    const turn = talk(conversations(CONTEXT), 40, []).at(-1)!;
    const text = language.tokenizer.decode(tokensOf(turn));
    const held = [...text.matchAll(/Question number (\d+),/g)].map(([, number]) => Number(number));
    expect(held).toEqual(Array.from({ length: 40 - turn.dropped }, (_, i) => turn.dropped + i));
    for (const number of held.slice(0, -1)) expect(text).toContain(`Rain ${number}`);
  });

  test("and is unknown is laid out from its end only", () => {
    const messages = Array.from({ length: 101 }, (_, i) => (i % 2 === 0 ? user(`Question ${i}?`) : assistant(`Answer ${i}.`)));
    const turn = conversations(CONTEXT).continue(messages, { answerTokens: 20 });
    expect(turn.dropped).toBeGreaterThan(20);
    expect(tokensOf(turn).length).toBeLessThanOrEqual(CONTEXT - 20);
    expect(language.tokenizer.decode(tokensOf(turn))).toContain("Answer 99.");
  });

  test("is refused, with the counts, if its last message does not fit by itself", () => {
    const { tokenizer } = language;
    const message = "word ".repeat(300);
    expect(() => conversations(CONTEXT).continue([user(message)], { answerTokens: 20 })).toThrow(
      expect.objectContaining({ code: "too_long", message: expect.stringMatching(/holds 200 tokens.* answer may take 20\./) }),
    );
    expect(tokenizer.encode(message).length).toBeGreaterThan(CONTEXT);
  });
});

describe("a message", () => {
  const long = "The ferry crosses the river in four minutes. ".repeat(50);
  const key = (index: number, messages: readonly Message[]) => keysOf(conversations().continue(messages, { answerTokens: 10 }))[index];

  test("is found when it is sent again after the same beginning, whatever follows it", () => {
    const alone = key(0, [user(long)]);
    expect(key(0, [user(long), user("How long does it take?")])).toBe(alone);
    expect(key(0, [user(long), assistant("I see."), user("How long does it take?")])).toBe(alone);
    expect(key(0, [user("Hello."), user(long)])).not.toBe(alone);
    expect(key(0, [system("Be kind."), user(long)])).not.toBe(alone);
  });

  test("from an assistant that was not ours is found as well", () => {
    const told = [user("Hello"), assistant(long)];
    expect(key(1, [...told, user("One")])).toBe(key(1, [...told, user("Two")]));
    expect(key(1, [...told, user("One")])).not.toBe(key(1, [user("Hello"), assistant("Hi"), user("One")]));
  });
});

/** An exchange of some 90 tokens. */
const exchange = (i: number) => ({
  asked: `Question number ${i}: ${"what is the weather of this day, ".repeat(6)}and of the next?`,
  answered: `Rain ${i}, ${"and then more rain ".repeat(2)}`,
});

/** Runs some exchanges in sequence, and returns the messages with their answers. */
function talked(
  count: number,
  options: (turn: number) => Partial<ContinueOptions> = () => ({}),
  opening: readonly Message[] = [],
): { messages: Message[]; turns: Turn[] } {
  const messages = [...opening];
  const turns = Array.from({ length: count }, (_, i) => {
    messages.push(user(exchange(i).asked));
    const turn = conversations().continue(messages, { answerTokens: 20, ...options(i) });
    messages.push(assistant(answer(turn, letters(exchange(i).answered))));
    return turn;
  });
  return { messages, turns };
}

describe("a client that drops its own oldest exchanges", () => {
  const next = user("And tomorrow?");

  test.each([
    ["with a system message", [system("You tell the weather.")]],
    ["without one", []],
  ])("%s finds the others as they were computed, and computes only its new message", (_, opening) => {
    const { messages } = talked(5, undefined, opening);
    const whole = conversations().continue([...messages, next], { answerTokens: 20 });
    for (const dropped of [1, 2, 4]) {
      const kept = messages.slice(opening.length + 2 * dropped);
      const turn = conversations().continue([...opening, ...kept, next], { answerTokens: 20 });
      expect(keysOf(turn).slice(0, -1)).toEqual(keysOf(whole).slice(2 * dropped, -1));
      expect(keysOf(turn).slice(0, -1)).toHaveLength(kept.length);
      expect(turn.dropped).toBe(0); // by us
    }
  });

  test("can do so at every turn indefinitely", () => {
    const HELD = 3;
    const messages: Message[] = [];
    const computed = new Set<string>();
    for (let i = 0; i < 12; i++) {
      messages.push(user(exchange(i).asked));
      if (messages.length > 2 * HELD) messages.splice(0, 2);
      const turn = conversations().continue(messages, { answerTokens: 20 });
      expect(keysOf(turn).filter((key) => !computed.has(key))).toEqual([keysOf(turn).at(-1)]);
      computed.add(keysOf(turn).at(-1)!);
      messages.push(assistant(answer(turn, letters(exchange(i).answered))));
      computed.add(turn.keepAnswer(letters(exchange(i).answered))!);
    }
  });

  test("is a single client: KV states that saw what this client did not send are not found, nor is anything after them", () => {
    const { messages } = talked(3, () => ({ client: "one" }));
    const kept = messages.slice(2);
    const own = conversations().continue([...kept, next], { answerTokens: 20, client: "one" });
    const own2 = [...kept, next, assistant(answer(own, letters("Sun.")))];
    for (const history of [kept, own2]) {
      const [ours, others, anew] = ["one", "two", "three"].map((client) =>
        keysOf(conversations().continue([...history, next], { answerTokens: 20, client })),
      );
      expect(others).toEqual(anew);
      expect(others!.some((key) => ours!.includes(key))).toBe(false);
    }
  });

  test("does not find KV states of another conversation or other instructions", () => {
    const { messages } = talked(3);
    const found = new Set(talked(3).turns.flatMap(keysOf));
    const foundIn = (history: readonly Message[]) =>
      keysOf(conversations().continue([...history, next], { answerTokens: 20 })).filter((key) => found.has(key));
    expect(foundIn(messages.slice(2)).length).toBeGreaterThan(0);
    expect(foundIn([system("Be rude."), ...messages.slice(2)])).toEqual([]);
    expect(foundIn([user("Something else."), assistant("Yes."), ...messages.slice(4)])).toEqual([]);
  });

  test("finds nothing if its last words are too few to identify the conversation", () => {
    const messages: Message[] = [user(exchange(0).asked)];
    messages.push(
      assistant(answer(conversations().continue(messages, { answerTokens: 20 }), letters(exchange(0).answered))),
      user("Thanks"),
    );
    const thanked = conversations().continue(messages, { answerTokens: 20 });
    messages.push(assistant(answer(thanked, letters("You are welcome."))));
    const turn = conversations().continue([...messages.slice(2), next], { answerTokens: 20 });
    expect(keysOf(turn)).not.toContain(keysOf(thanked).at(-1));
  });
});

describe("a conversation over documents that change", () => {
  const { begin, afterAnswer, ask } = {
    begin: [] as number[],
    afterAnswer: [2],
    ask: (asked: readonly Message[]) => asked.map(({ content }) => encode(content)),
  };
  const over = (document: string): Setting => ({
    opening: [
      { block: { tokens: [1, 2, 3] }, at: 0 },
      { block: { tokens: encode(document) }, at: 3 },
    ],
    phrasing: { ask, begin, afterAnswer },
  });

  test("is kept once, whatever preceded it at each turn", () => {
    const { turns } = talked(8, (turn) => ({ setting: over(`Document ${turn}. ${"It says little. ".repeat(turn)}`) }));
    const known = new Set<string>();
    for (const turn of turns) {
      expect(keysOf(turn).filter((key) => !known.has(key))).toEqual([keysOf(turn).at(-1)]);
      for (const key of keysOf(turn)) known.add(key);
      known.add(turn.keepAnswer(letters(exchange(turns.indexOf(turn)).answered))!);
    }
    const said = turns.reduce((sum, turn) => sum + (turn.plan.pieces.at(-1) as FreshPiece).tokens.length, 0);
    const answers = turns.reduce((sum, _, i) => sum + letters(exchange(i).answered).length, 0);
    expect(records.keptTokens).toBe(said + answers);
  });

  test("over the same documents again finds the KV states that saw them", () => {
    const setting = over("Document.");
    const { messages, turns } = talked(2, () => ({ setting }));
    const again = conversations().continue([...messages, user("And?")], { answerTokens: 20, setting, client: "another" });
    expect(keysOf(again).slice(0, -1)).toEqual([...keysOf(turns[1]!), turns[1]!.keepAnswer(letters(exchange(1).answered))]);
  });
});

describe("a conversation over linked documents", () => {
  const { begin, afterAnswer, ask } = {
    begin: [] as number[],
    afterAnswer: [2],
    ask: (asked: readonly Message[]) => asked.map(({ content }) => encode(content)),
  };
  const instructions = { block: { tokens: [1, 2, 3] }, at: 0 };
  const document = { block: { tokens: [4, 5, 6, 7] }, at: 3 };
  const over = (document: BlockPiece): Setting => ({ opening: [instructions, document], phrasing: { ask, begin, afterAnswer } });
  const setting = over({ ...document, loose: true });
  const whensOf = ({ plan }: Turn) => plan.pieces.flatMap((piece) => (isBlockPiece(piece) ? [] : (piece.linked ?? "plain")));

  test("finds its earlier turns as they were computed, and computes only the new question", () => {
    const { turns } = talked(3, () => ({ setting: { ...setting, link: "0.15" } }));
    expect(turns.map(whensOf)).toEqual([["now"], ["before", "before", "now"], ["before", "before", "before", "before", "now"]]);
    const known = new Set<string>();
    for (const [i, turn] of turns.entries()) {
      expect(keysOf(turn).filter((key) => !known.has(key))).toEqual([keysOf(turn).at(-1)]);
      for (const key of keysOf(turn)) known.add(key);
      known.add(turn.keepAnswer(letters(exchange(i).answered))!);
    }
  });

  test("has separate keys for each way of linking and for each question's choice of tokens, but not if documents are not loose", () => {
    const keys = (link: string | undefined, messages: readonly Message[] = [user("Hello"), assistant("Hi"), user("Why?")]) =>
      keysOf(conversations().continue(messages, { answerTokens: 20, setting: { ...setting, link } }));
    const sets = [keys(undefined), keys("0.15"), keys("0.3"), keys("0.15", [user("Hello"), assistant("Hi"), user("When?")])];
    expect(new Set(sets.flat()).size).toBe(sets.flat().length);
    const plain = conversations().continue([user("Hello")], { answerTokens: 20, setting: { ...over(document), link: "0.15" } });
    expect(whensOf(plain)).toEqual(["plain"]);
  });
});

describe("a text that no context has room for", () => {
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

  test("is refused as the last message, dropped as an older one, and read no further than needed", () => {
    const refused = readFor([user(huge)]);
    expect(refused.dropped).toBeUndefined();
    const shortened = readFor([user(huge), assistant("Yes."), user("And then?")]);
    expect(shortened.dropped).toBe(1);
    const answered = readFor([user("Hi."), assistant(huge), user("And then?")]);
    expect(answered.dropped).toBe(1);
    for (const { read } of [refused, shortened, answered]) expect(read).toBeLessThan(50_000);
  });

  test("identifies its conversation to the last character, however and whenever it was digested", async () => {
    const chats = conversations();
    const messages = (text: string) => [user(text), assistant("Yes."), user("And then?")];
    const text = answer(chats.continue(messages(huge), { answerTokens: 20 }), letters("Then it returns."));
    const next = (text: string, options: Partial<ContinueOptions> = {}) =>
      keysOf(chats.continue([...messages(text), assistant("Then it returns."), user("Why?")], { answerTokens: 20, ...options }));
    expect(text).toBe("Then it returns.");
    const found = next(huge);
    expect(found.length).toBeGreaterThan(1);
    expect(next(huge, { nameOf: await namesOf([huge]) })).toEqual(found);
    expect(next(`${huge}.`)).not.toEqual(found);
  });
});

describe("records", () => {
  const segment = (key: string, tokens: number) => ({ key, tokens: Array.from({ length: tokens }, (_, i) => i) });
  const window = (...segments: ReturnType<typeof segment>[]) => ({ exchanges: [{ said: "said", segments }], tail: [] });

  /** Like after an answer: its segments are stored, then its window is remembered. */
  function keepAndRemember(key: string, ...segments: ReturnType<typeof segment>[]): void {
    for (const each of segments) records.keep(each.key, each.tokens.length);
    records.remember(key, window(...segments), "end");
  }

  test("count only what was kept", () => {
    records.remember("a", window(segment("1", 40)), "end");
    records.use(["1", "2"]);
    expect(records.keptTokens).toBe(0);
    records.keep("1", 40);
    expect(records.keptTokens).toBe(40);
  });

  test("drop at once whatever exceeds their budget by itself", async () => {
    await records.close();
    records = openRecords({ maxTokens: 100 });
    records.keep("1", 101);
    expect(forgotten).toEqual(["1"]);
    expect(records.keptTokens).toBe(0);
  });

  test("drop the least recently used, however short the time between uses", async () => {
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

  test("keep no more KV states than their budget, dropping the least recently used first", async () => {
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
    expect(records.window("a")).toEqual(window(segment("1", 40))); // its tokens are still known: they lead to the same answer
  });

  test("count a segment that many windows share once", () => {
    keepAndRemember("a", segment("1", 40));
    keepAndRemember("b", segment("1", 40), segment("2", 10));
    expect(records.keptTokens).toBe(50);
  });

  test("find a window by its end as long as they keep it, newest first", async () => {
    await records.close();
    records = openRecords({ maxTokens: 1 }); // windows of 100 tokens
    const keys = ["a", "b", "c"];
    for (const key of keys) records.remember(key, window(segment(key, 40)), "end");
    const known = () => records.endingWith("end").map(({ exchanges }) => exchanges[0]!.segments[0]!.key);
    expect(known()).toEqual(["c", "b"]);
    records.remember("b", window(segment("b again", 20)), "other end");
    expect(known()).toEqual(["c"]);
    expect(records.endingWith("other end")).toHaveLength(1);
  });

  test("drop windows written by an older kvsplice, but still count their KV states", async () => {
    keepAndRemember("a", segment("1", 40));
    await records.close();
    const path = join(folder, "conversations.lmdb");
    const root = open({ path, noSubdir: true });
    root.openDB({ name: "totals" }).removeSync("format");
    root.openDB({ name: "windows" }).putSync("a", { exchanges: [[segment("1", 40)]], tail: [], tokens: 40, used_ms: Date.now() });
    await root.close();
    records = openRecords();
    expect(records.window("a")).toBeUndefined();
    expect(records.keptTokens).toBe(40);
  });

  test("drop what exceeds their maximum age", async () => {
    keepAndRemember("a", segment("1", 40));
    await records.close();
    await later();
    records = openRecords({ maxAge_ms: 1 });
    expect(forgotten).toEqual(["1"]);
    expect(records.window("a")).toBeUndefined();
    expect(records.keptTokens).toBe(0);
  });

  test("from a file of another kind are refused, and the error says what to do", async () => {
    await records.close();
    writeFileSync(join(folder, "conversations.lmdb"), "x".repeat(10_000));
    expect(() => openRecords()).toThrow(
      expect.objectContaining({ code: "bad_store", message: expect.stringContaining("Delete the file") }),
    );
    rmSync(join(folder, "conversations.lmdb"));
    records = openRecords();
  });

  /** Waits until the clock shows the next millisecond. */
  const later = () => new Promise((wake) => setTimeout(wake, 5));
});
