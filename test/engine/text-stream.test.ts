import fc from "fast-check";
import { expect, test } from "vitest";
import { TextStream } from "../../engine/text-stream.js";

/** Each id is one byte. */
const bytes = {
  encode: (text: string) => [...Buffer.from(text)],
  decode: (ids: readonly number[]) => Buffer.from(ids).toString(),
};

function streamed(text: string, stops: readonly string[] = []): { parts: string[]; stopped: boolean } {
  const stream = new TextStream(bytes, { stops });
  const parts: string[] = [];
  for (const id of bytes.encode(text)) {
    parts.push(stream.push(id));
    if (stream.stopped) break;
  }
  return { parts: [...parts, stream.end()], stopped: stream.stopped };
}

test("the parts of a text add up to the whole, and no part ends within a character", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const { parts } = streamed(text.replaceAll("\uFFFD", ""));
      expect(parts.join("")).toBe(text.replaceAll("\uFFFD", ""));
      parts.forEach((part) => expect(part).not.toContain("\uFFFD"));
    }),
  );
});

test("never outputs any part of a stop text, or anything after it", () => {
  const unit = fc.constantFrom("a", "b", "é");
  const word = fc.string({ unit, minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 12 }), fc.array(word, { maxLength: 3 }), (text, stops) => {
      // The stop text that ends first ends the text; the longest if several end there.
      const ends = stops.map((stop) => text.indexOf(stop) + stop.length).filter((end, i) => text.includes(stops[i]!) && end > 0);
      const end = Math.min(...ends);
      const cut = Math.min(...stops.map((stop) => text.slice(0, end).indexOf(stop)).filter((at) => at >= 0));
      const { parts, stopped } = streamed(text, stops);
      expect(stopped).toBe(cut < Infinity);
      expect(parts.join("")).toBe(stopped ? text.slice(0, cut) : text);
    }),
  );
});

test("what the model thinks before it answers is not part of the answer", () => {
  const thought = { begin: "<think>", end: "</think>", begun: false };
  const shown = (text: string, begun = false) => {
    const stream = new TextStream(bytes, { thought: { ...thought, begun } });
    return (
      bytes
        .encode(text)
        .map((id) => stream.push(id))
        .join("") + stream.end()
    );
  };
  const words = fc.string({ unit: "grapheme-ascii" }).filter((text) => !text.includes("<") && !text.includes(">"));
  fc.assert(
    fc.property(words, words, (inner, answer) => {
      expect(shown(`<think>${inner}</think>\n\n${answer}`)).toBe(answer.trimStart());
      expect(shown(`${inner}</think>${answer}`, true)).toBe(answer.trimStart());
      expect(shown(`x${answer}<think>`)).toBe(`x${answer}<think>`);
    }),
  );
  expect(shown("<think>cut short")).toBe("");
  expect(shown("<thin")).toBe("");
});
