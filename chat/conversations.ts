import { createHash } from "node:crypto";
import { type BlockPiece, type BlockSource, type ChatTemplate, encodeWithin, isBlockPiece, KvspliceError, type Piece, type Plan, PlanWriter, type Tokenizer } from "../plan/index.js";
import { exchangesOf, type Exchange, type Message } from "./message.js";
import { chatPhrasing, type ChatPhrasing, type Phrasing } from "./phrasing.js";
import type { Records } from "./records.js";
import { newestWithin, type Segment, type Window } from "./window.js";

/** Characters of a text that are read before it is looked whether they are enough. */
const READ_AT_ONCE = 4_096;

/** More than an opening has of a message that is not a system's. */
const OPENING_TOKENS = 64;

export type ConversationsOptions = {
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
  /** Names a block; the model is a part of the name. */
  readonly keyOf: (source: BlockSource) => string;
  /** Tokens that a prompt and its answer may have together. */
  readonly contextTokens: number;
  readonly records: Records;
};

/** What stands before a conversation from position 0 and never leaves it, and how its messages are put over that. */
export type Setting = { readonly opening: readonly Piece[]; readonly phrasing: Phrasing };

export type ContinueOptions = {
  /** Room that is left for the answer. */
  readonly answerTokens: number;
  /** Stop texts of the answer. */
  readonly stop?: readonly string[];
  /** The chat template and what it opens with, when left out. */
  readonly setting?: Setting;
};

/** How an answer came out. */
export type Answered = {
  /** As the client has it, and will send it back. */
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finish: "end" | "length" | "stop";
};

/** A conversation that is about to be answered. */
export type Turn = {
  readonly plan: Plan;
  /** Exchanges that the context no longer holds. */
  readonly dropped: number;
  /** Names the KV of the answer; the engine's option of that name. */
  keepAnswer(tokens: readonly number[]): string | undefined;
  /** Remembers the answer when it has ended, so that the next turn finds its KV. */
  answered(answer: Answered): void;
};

/**
 * Conversations whose KV is computed once (CachedAttention, Gao et al. 2024), over a protocol that knows no conversations:
 * each request brings all messages, and the texts up to an answer of ours lead to the tokens that it was made of.
 *
 * The key of a segment's KV is a hash of its tokens and of the keys of all that they saw. KV has no position, so when a
 * conversation outgrows the context its oldest exchanges go and the others move up: nothing is computed again, and they
 * keep what they saw when they were computed. The opening stays (the system message, or what the template writes before
 * the first message), as attention sink.
 */
export class Conversations {
  private readonly phrasing: ChatPhrasing;

  constructor(private readonly options: ConversationsOptions) {
    this.phrasing = chatPhrasing(options.tokenizer, options.chat);
  }

  /**
   * Lays out the next answer.
   * @param messages the last of which is not the assistant's
   * @throws KvspliceError `too_long` where opening, last exchange and answer do not fit the context
   */
  continue(messages: readonly Message[], { answerTokens, stop = [], setting }: ContinueOptions): Turn {
    const { tokenizer, contextTokens, records, keyOf } = this.options;
    const exchanges = exchangesOf(messages);
    const { opening, openingTokens, phrasing } = setting ? { ...setting, openingTokens: 0 } : this.ownSetting(exchanges[0]!);
    const keys = opening.map((piece) => (isBlockPiece(piece) ? keyOf(piece.block) : keyAfter([], piece.tokens)));
    const chain = chainOf(keys, exchanges);
    const { known, window } = longestKnown(records, chain);

    const tokensOf = (index: number): number[][] => {
      const { asked, answer } = exchanges[index]!;
      const tail = index === known + 1 ? window.tail : [];
      const question = index === 0 ? phrasing.ask(asked, { first: true }).slice(openingTokens) : [...tail, ...phrasing.afterAnswer, ...phrasing.ask(asked, { first: false })];
      return [question, answer === undefined ? [] : tokenizer.encode(answer)].filter((tokens) => tokens.length > 0);
    };
    const writer = new PlanWriter().moved(opening);
    const start = writer.at;
    const fresh: number[][][] = [];
    let left = contextTokens - start - answerTokens;
    for (let index = exchanges.length - 1; index > known; index--) {
      const tokens = isWithin(exchanges[index]!, left, tokenizer) ? tokensOf(index) : undefined;
      const length = tokens?.flat().length ?? Infinity;
      if (tokens === undefined || length > left) {
        if (fresh.length === 0) throw lastMessageTooLong({ contextTokens, start, length, answerTokens });
        break;
      }
      left -= length;
      fresh.unshift(tokens);
    }
    const kept = fresh.length === exchanges.length - 1 - known ? newestWithin(window.exchanges, left) : [];

    const lay = (segment: Segment): Segment => {
      writer.fresh(segment.tokens, { keep: segment.key });
      keys.push(segment.key);
      return segment;
    };
    kept.flat().forEach(lay);
    const laid = [...kept, ...fresh.map((exchange) => exchange.map((tokens) => lay({ tokens, key: keyAfter(keys, tokens) })))];

    let answer: Segment | undefined;
    return {
      plan: writer.plan,
      dropped: exchanges.length - laid.length,
      keepAnswer(tokens) {
        const text = tokenizer.decode(tokens);
        if (tokens.length === 0 || stop.some((each) => text.includes(each))) return undefined;
        answer = { tokens: [...tokens], key: keyAfter(keys, tokens) };
        return answer.key;
      },
      answered({ text, tokens, finish }) {
        const tail = tailOf(text, tokens, finish, answer?.tokens ?? [], tokenizer);
        if (!tail) return;
        const last = [...laid.at(-1)!, ...(answer ? [answer] : [])];
        records.remember(keyAfterText(chain.at(-1)!, exchanges.at(-1)!, text), { exchanges: [...laid.slice(0, -1), last], tail });
        records.use(opening.filter(isBlockPiece).map(({ block }) => keyOf(block)));
      },
    };
  }

  private ownSetting(first: Exchange) {
    const { tokenizer, contextTokens } = this.options;
    // The opening is a system message, or the first few tokens of what is asked: no more of a text is read than that takes.
    const most = (role: Message["role"]) => (role === "system" ? contextTokens : OPENING_TOKENS);
    const asked = first.asked.map((message) => ({ ...message, content: beginningOf(message.content, most(message.role), tokenizer) }));
    const openingTokens = this.phrasing.openingTokens(asked);
    const opening: BlockPiece[] = [{ block: { tokens: this.phrasing.ask(asked, { first: true }).slice(0, openingTokens) }, at: 0 }];
    return { opening, openingTokens, phrasing: this.phrasing };
  }
}

/** Whether an exchange's texts alone have at most so many tokens; no more of them is read than it takes to know. */
function isWithin({ asked, answer }: Exchange, tokens: number, tokenizer: Tokenizer): boolean {
  let left = tokens;
  return [...asked.map(({ content }) => content), ...(answer === undefined ? [] : [answer])].every((text) => {
    const ids = encodeWithin(tokenizer, text, left);
    left -= ids?.length ?? 0;
    return ids !== undefined;
  });
}

/** A text, or its beginning, which has some tokens more. */
function beginningOf(text: string, tokens: number, tokenizer: Tokenizer): string {
  const reading = tokenizer.read(text);
  while (reading.ids.length <= tokens && reading.advance(READ_AT_ONCE));
  return reading.ids.length <= tokens ? text : text.slice(0, reading.ends.at(-1));
}

type Lengths = { readonly contextTokens: number; readonly start: number; readonly length: number; readonly answerTokens: number };

function lastMessageTooLong({ contextTokens, start, length, answerTokens }: Lengths): KvspliceError {
  const taken = length === Infinity ? `more than ${Math.max(0, contextTokens - start - answerTokens)}` : String(length);
  return new KvspliceError(
    "too_long",
    `The context holds ${contextTokens} tokens; what comes before the last message takes ${start}, the last message ${taken}, ` +
      `and the answer may take ${answerTokens}. Shorten the message, use fewer documents, or lower max_tokens.`,
  );
}

/** Of a conversation the last answer that was ours, and what the model saw after it. */
function longestKnown(records: Records, chain: readonly string[]): { readonly known: number; readonly window: Window } {
  for (let known = chain.length - 2; known >= 0; known--) {
    const window = records.window(chain[known + 1]!);
    if (window) return { known, window };
  }
  return { known: -1, window: { exchanges: [], tail: [] } };
}

/** The text of the answer whose tokens have no KV, as tokens; undefined where text and tokens part ways before. */
function tailOf(text: string, tokens: readonly number[], finish: Answered["finish"], kept: readonly number[], tokenizer: Tokenizer): readonly number[] | undefined {
  if (finish !== "stop") return tokens.slice(kept.length);
  const before = tokenizer.decode(kept);
  return text.startsWith(before) ? tokenizer.encode(text.slice(before.length)) : undefined;
}

/** `[i]` stands for the opening and the texts of the first i exchanges; the last one, without its answer, is not among them. */
function chainOf(opening: readonly string[], exchanges: readonly Exchange[]): string[] {
  const chain = [sha256("conversation\n", ...opening)];
  for (const exchange of exchanges.slice(0, -1)) chain.push(keyAfterText(chain.at(-1)!, exchange, exchange.answer ?? ""));
  return chain;
}

function keyAfterText(before: string, { asked }: Exchange, answer: string): string {
  return sha256(before, JSON.stringify([asked.map(({ role, content }) => [role, content]), answer]));
}

/** The key of tokens that saw what the keys stand for, in this order and without gaps. */
function keyAfter(keys: readonly string[], tokens: readonly number[]): string {
  return sha256("segment\n", ...keys, Int32Array.from(tokens));
}

function sha256(...parts: readonly (string | Int32Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}
