import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { encodeWithin, inSlices, type Reading, type Tokenizer } from "../../plan/index.js";

/** One token per character. Each read step takes 6 ms, and the characters read between two turns of others are counted. */
function slowTokenizer() {
  const counted = { steps: 0, most: 0, characters: 0 };
  let inTurn = 0;
  const read = (text: string): Reading => {
    const ids: number[] = [];
    return {
      ids,
      ends: [],
      advance(characters) {
        if (ids.length === text.length) return false;
        for (const end = performance.now() + 6; performance.now() < end; );
        counted.steps++;
        counted.most = Math.max(counted.most, ++inTurn);
        const part = text.slice(ids.length, ids.length + characters);
        counted.characters += part.length;
        for (const character of part) ids.push(character.charCodeAt(0));
        return ids.length < text.length;
      },
    };
  };
  const encode = (text: string) => {
    const reading = read(text);
    while (reading.advance(4_096));
    return [...reading.ids];
  };
  const tokenizer = { read, encode, decode: () => "", size: 2 ** 16, bytesOf: () => new Uint8Array(), begin: [], end: [] } as Tokenizer;
  return { tokenizer, counted, turn: () => (inTurn = 0) };
}

const LONG = "a b ".repeat(25_000);

/** Does the work alongside something that takes every available turn. */
async function withOthers<T>(turn: () => void, work: Promise<T>): Promise<T> {
  let running = true;
  const others = (async () => {
    while (running) {
      turn();
      await setImmediate();
    }
  })();
  try {
    return await work;
  } finally {
    running = false;
    await others;
  }
}

test("a long text is read once, with turns for others in between, and gives the same tokens as in one go", async () => {
  const { tokenizer, counted, turn } = slowTokenizer();
  const work = (reader: Tokenizer) => ({
    within: encodeWithin(reader, LONG, 200_000),
    whole: reader.encode(LONG),
    short: reader.encode("short"),
  });
  const read = await withOthers(turn, inSlices(tokenizer, { most: 200_000 }, work));
  expect(counted.most).toBeLessThanOrEqual(4);
  expect(counted.characters).toBe(LONG.length + "short".length);
  const whole = Array.from(LONG, (character) => character.charCodeAt(0));
  expect(read.whole).toEqual(whole);
  expect(read.within).toEqual(whole);
});

test("the same goes for many short texts, each read once", async () => {
  const { tokenizer, counted, turn } = slowTokenizer();
  const texts = Array.from({ length: 20 }, (_, i) => `${i} ${"a b ".repeat(1_000)}`);
  const read = await withOthers(
    turn,
    inSlices(tokenizer, { most: Infinity }, (reader) => texts.map((text) => reader.encode(text).length)),
  );
  expect(read).toEqual(texts.map(({ length }) => length));
  expect(counted.characters).toBe(texts.join("").length);
  expect(counted.most).toBeLessThanOrEqual(8);
});

test("a text that is too long is read no further than needed to know that", async () => {
  const { tokenizer, counted, turn } = slowTokenizer();
  expect(
    await withOthers(
      turn,
      inSlices(tokenizer, { most: 10_000 }, (reader) => encodeWithin(reader, LONG, 10_000)),
    ),
  ).toBeUndefined();
  expect(counted.characters).toBeLessThan(20_000);
});

test("texts read with different options are kept separate, and errors of the work pass through", async () => {
  const { tokenizer } = slowTokenizer();
  const asked: unknown[] = [];
  const watched: Tokenizer = { ...tokenizer, read: (text, options) => (asked.push(options), tokenizer.read(text)) };
  const text = LONG.slice(0, 20_000);
  await inSlices(watched, { most: Infinity }, (reader) => [reader.encode(text), reader.encode(text, { control: true })]);
  expect(asked).toEqual([{}, { control: true }]);
  await expect(
    inSlices(tokenizer, { most: 1 }, () => {
      throw new RangeError("mine");
    }),
  ).rejects.toThrow(RangeError);
});

test("it ends when its signal is aborted", async () => {
  const { tokenizer } = slowTokenizer();
  await expect(inSlices(tokenizer, { most: Infinity, signal: AbortSignal.abort() }, (reader) => reader.encode(LONG))).rejects.toMatchObject(
    { code: "cancelled" },
  );
});
