import { type ChatTemplate, isBlockPiece, type Plan, type Tokenizer } from "../../../plan/index.js";
import { withReading } from "../fake-reading.js";

/**
 * A tokenizer that a reader can follow: a token is a word with one space before it, a remaining space or line feed,
 * or, in control text, a control word `<|...|>`. Ids are given in order of first use.
 */
export function wordTokenizer(): Tokenizer {
  const words: string[] = [];
  const ids = new Map<string, number>();
  const idOf = (word: string, control: boolean) => {
    const key = `${control}${word}`;
    const id = ids.get(key) ?? words.push(word) - 1;
    ids.set(key, id);
    return id;
  };
  return withReading({
    encode(text, { control = false } = {}) {
      const pattern = control ? /<\|\w+\|>| ?[^\s<]+|\s|</g : / ?\S+|\s/g;
      return Array.from(text.matchAll(pattern), ([word]) => idOf(word, control && word.startsWith("<|")));
    },
    decode: (tokens) => tokens.map((id) => words[id]).join(""),
  });
}

/** ChatML, with a control word only at the very start. */
export const chat: ChatTemplate = {
  frame: (role, after) => ({
    open: `${after === undefined ? "<|bos|>" : ""}<|im_start|>${role}\n`,
    close: "<|im_end|>\n",
  }),
  content: (_, text) => text,
  generationPrompt: "<|im_start|>assistant\n",
  stop: [],
  thought: undefined,
};

/**
 * A plan in readable form: each piece as its kind and its tokens by position. Tokens at adjacent positions are joined
 * to one text; omitted ones are left out.
 */
export type ReadPiece = readonly [kind: "block" | "fresh", texts: Readonly<Record<number, string>>];

export function read(plan: Plan, tokenizer: Tokenizer): ReadPiece[] {
  return plan.pieces.map((piece): ReadPiece => {
    const tokens = isBlockPiece(piece) ? piece.block.tokens : piece.tokens;
    const offsets = isBlockPiece(piece) ? piece.block.offsets : undefined;
    const omit = (isBlockPiece(piece) && piece.omit) || [];
    const texts: Record<number, string> = {};
    let start = -1;
    let next = -1;
    tokens.forEach((token, i) => {
      if (omit.some(([from, to]) => i >= from && i < to)) return;
      const position = piece.at + (offsets?.[i] ?? i);
      if (position !== next) start = position;
      texts[start] = (texts[start] ?? "") + tokenizer.decode([token]);
      next = position + 1;
    });
    return [isBlockPiece(piece) ? "block" : "fresh", texts];
  });
}
