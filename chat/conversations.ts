import { createHash } from "node:crypto";
import {
  type BlockPiece,
  type BlockSource,
  type ChatTemplate,
  encodeWithin,
  type FreshPiece,
  isBlockPiece,
  KvspliceError,
  type Piece,
  type Plan,
  PlanWriter,
  type Tokenizer,
} from "../plan/index.js";
import type { ConversationRecords } from "./conversation-records.js";
import { type NameOf, nameOf } from "./long-texts.js";
import { type Exchange, exchangesOf, type Message } from "./message.js";
import { type ChatPhrasing, chatPhrasing, type Phrasing, answerTokens as tokensOfAnswer } from "./phrasing.js";
import type { Lookup, SharedConversations, TurnOrder } from "./shared-conversations.js";
import { lengthOf, newestWithin, type SeenExchange, type Segment, type Window } from "./window.js";

/** Characters of a text that are read before checking whether they are enough. */
const READ_AT_ONCE = 4_096;

/** More than an opening contains of a message that is not the system's. */
const OPENING_TOKENS = 64;

/** Many conversations may share an end of fewer tokens ("Thanks" and "You are welcome"), so it does not identify one. */
const LEAST_ALIKE_TOKENS = 64;

/** The model whose conversations these are, and where their records are kept. */
export type ConversationsOptions = {
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
  /** Returns a block's key, which depends on the model. */
  readonly keyOf: (source: BlockSource) => string;
  /** Maximum tokens of a prompt and its answer together. */
  readonly contextTokens: number;
  readonly records: ConversationRecords;
  /** Records shared with other servers, of which `records` is then a copy. Nothing is shared by default. */
  readonly shared?: SharedConversations | undefined;
  /** Resolves when stored KV states are available to other servers; immediately by default. */
  readonly settled?: (() => Promise<unknown>) | undefined;
};

/** The text that starts a conversation at position 0 and is never dropped, and how messages are phrased after it. */
export type Setting = {
  /** Instructions first, then what may change by the next turn: documents. */
  readonly opening: readonly Piece[];
  readonly phrasing: Phrasing;
  /** How the engine will link loose blocks of the opening, as it enters keys; not at all by default. */
  readonly link?: string | undefined;
};

/** How the next turn is answered, and whose conversation it is. */
export type ContinueOptions = {
  /** Room for the answer. */
  readonly answerTokens: number;
  /** Maximum tokens of this prompt and its answer together; by default the limit for all. */
  readonly contextTokens?: number;
  /** Stop texts of the answer; none by default. */
  readonly stop?: readonly string[];
  /** By default the chat template and what it opens with. */
  readonly setting?: Setting | undefined;
  /** By default the model's own chat template; for instance, one with tools. */
  readonly chat?: ChatTemplate | undefined;
  /** By default the model's own; for instance, one that has already read long texts (`inSlices`). */
  readonly tokenizer?: Tokenizer | undefined;
  /** How texts are identified (`namesOf`, which digests long ones ahead of time); computed when needed if omitted. */
  readonly nameOf?: NameOf | undefined;
  /** Whose conversation it is, if known: KV states that saw more than the messages are found only by the same client. By default
   * there is only one client. */
  readonly client?: string | undefined;
  /** Identifies the conversation, to order its turns across several servers; no order is kept by default. */
  readonly conversation?: string | undefined;
};

/** How an answer ended. */
export type Answered = {
  /** Text of its tokens. */
  readonly text: string;
  /** The text as the client has it and will send it back; the same by default. */
  readonly shown?: string;
  readonly tokens: readonly number[];
  readonly finish: "end" | "length" | "stop";
};

/** A conversation that is about to be answered. */
export type Turn = {
  readonly plan: Plan;
  /** Exchanges dropped from the context. */
  readonly dropped: number;
  /** For another answer to the same messages: the conversation may continue from either. */
  again(): Turn;
  /** Keys for the KV states of the answer and of what opens it; the engine's option of that name. */
  keepAnswer(tokens: readonly number[]): string | undefined;
  /**
   * Remembers the answer when it has ended, so that the next turn finds its KV states: immediately in the records, and for other
   * servers when this resolves, with the turn's place in the conversation if servers share it.
   */
  answered(answer: Answered): Promise<TurnOrder | undefined>;
};

/** A conversation's last answer that was ours, and what the model saw after it. */
type Known = {
  readonly exchange: number;
  readonly window: Window;
  /** It saw more than the given messages and documents, so other clients must not use it. */
  readonly sawMore: boolean;
};

/** The parts of `ContinueOptions` that identify the conversation. */
export type Whose = Pick<ContinueOptions, "setting" | "chat" | "tokenizer" | "nameOf" | "client">;

/** Messages before anything known about them is looked up. */
type Asked = {
  readonly exchanges: readonly Exchange[];
  readonly opening: readonly Piece[];
  readonly openingTokens: number;
  readonly phrasing: Phrasing;
  /** How its loose blocks are linked, if it has any. */
  readonly linked: string | undefined;
  /** Of the opening. */
  readonly keys: string[];
  /** `[i]` identifies the opening and the texts of the first i exchanges, not including the last, which has no answer. */
  readonly chain: readonly string[];
  saidIn(exchange: Exchange): string;
  keyAfterText(before: string, exchange: Exchange): string;
  ownKey(key: string): string;
  endOfWindow(said: string): string;
};

/**
 * Conversations whose KV states are computed once (CachedAttention, Gao et al. 2024), over a protocol without conversations:
 * each request contains all messages, and the texts up to an answer of ours identify the tokens that it was made of.
 *
 * Each message is a segment. The key of its KV states is a hash of its tokens and of the keys of everything they saw, so
 * sending it again after the same beginning finds it. If documents are linked, the key also contains how, and the question
 * asked. KV states have no position: when a conversation outgrows the context, its oldest exchanges are dropped and the others
 * move up without being computed again; they keep what they saw when they were computed. The same happens if a client drops
 * its oldest exchanges itself, or sends other documents with the same conversation. The opening stays (the system message, or
 * what the template writes before the first message), as attention sink.
 */
export class Conversations {
  private readonly phrasing: ChatPhrasing;

  constructor(private readonly options: ConversationsOptions) {
    this.phrasing = chatPhrasing(options.tokenizer, options.chat);
  }

  /**
   * Lays out the next answer; if the last message is the assistant's, the answer continues it.
   * @throws KvspliceError `too_long` if opening, last exchange and answer do not fit into the context
   */
  continue(
    messages: readonly Message[],
    {
      answerTokens,
      contextTokens = this.options.contextTokens,
      stop = [],
      setting,
      chat,
      tokenizer = this.options.tokenizer,
      nameOf,
      client = "",
      conversation,
    }: ContinueOptions,
  ): Turn {
    const { records, keyOf, shared, settled } = this.options;
    const asking = this.ask(messages, { setting, chat, tokenizer, nameOf, client });
    const { exchanges, opening, openingTokens, phrasing, linked, keys, chain, saidIn, keyAfterText, ownKey, endOfWindow } = asking;
    const known = this.longestKnown(asking);
    const { window } = known;

    const tokensOf = (index: number): number[][] => {
      const exchange = exchanges[index]!;
      const [first = [], ...others] = phrasing.ask(exchange.asked, { first: index === 0 });
      const tail = index === known.exchange + 1 ? window.tail : [];
      const before = index === 0 ? [] : [...tail, ...phrasing.afterAnswer];
      const said = [[...before, ...first], ...others, [...phrasing.begin, ...tokensOfAnswer(exchange, tokenizer)]];
      return (index === 0 ? without(openingTokens, said) : said).filter((tokens) => tokens.length > 0);
    };
    const writer = new PlanWriter().moved(opening);
    const start = writer.at;
    const fresh: { said: string; messages: number[][] }[] = [];
    let left = contextTokens - start - answerTokens;
    for (let index = exchanges.length - 1; index > known.exchange; index--) {
      const messages = isWithin(exchanges[index]!, left, tokenizer) ? tokensOf(index) : undefined;
      const length = messages?.flat().length ?? Infinity;
      if (messages === undefined || length > left) {
        if (fresh.length === 0) throw lastMessageTooLong({ contextTokens, start, length, answerTokens });
        break;
      }
      left -= length;
      fresh.unshift({ said: saidIn(exchanges[index]!), messages });
    }
    const kept = fresh.length === exchanges.length - 1 - known.exchange ? newestWithin(window.exchanges, left) : [];

    // The last exchange chooses what is linked, along with what opens its answer; earlier ones do not.
    const mark = (asks: boolean) => (linked !== undefined && asks ? { asks: true as const } : {});
    const lay = (segment: Segment, when: NonNullable<FreshPiece["linked"]>, asks = false): Segment => {
      writer.fresh(segment.tokens, { keep: segment.key, ...(linked !== undefined && { linked: when }), ...mark(asks) });
      keys.push(segment.key);
      return segment;
    };
    for (const { segments } of kept) for (const segment of segments) lay(segment, "before");
    // What is computed again depends on everything that is computed now, so every key includes that.
    const choice =
      linked === undefined
        ? undefined
        : keyAfter(
            [linked],
            fresh.flatMap(({ messages }) => messages.flat()),
          );
    const keyNow = (tokens: readonly number[]) => keyAfter(choice === undefined ? keys : [...keys, choice], tokens);
    // What opens the answer is kept with it: a separate pass for a few control tokens would cost as much as a token.
    const asked = exchanges.at(-1)!;
    const begin = asked.answer === undefined && phrasing.begin.length > 0 ? fresh.at(-1)!.messages.pop()! : [];
    const laid: SeenExchange[] = [
      ...kept,
      ...fresh.map(({ said, messages }, i) => {
        const isLast = i === fresh.length - 1;
        return { said, segments: messages.map((tokens) => lay({ tokens, key: keyNow(tokens) }, "now", isLast)) };
      }),
    ];
    writer.fresh(begin, mark(true));

    const turn = (): Turn => {
      let answer: { readonly segment: Segment; readonly tokens: readonly number[] } | undefined;
      return {
        plan: writer.plan,
        dropped: exchanges.length - laid.length,
        again: turn,
        keepAnswer(tokens) {
          const text = tokenizer.decode(tokens);
          if (tokens.length === 0 || stop.some((each) => text.includes(each))) return undefined;
          const segment = { tokens: [...begin, ...tokens], key: keyNow([...begin, ...tokens]) };
          answer = { segment, tokens: [...tokens] };
          return segment.key;
        },
        async answered({ text, shown = text, tokens, finish }) {
          const rest = tailOf(text, tokens, finish, answer?.tokens ?? [], tokenizer);
          if (!rest) return undefined;
          const whole = (asked.answer ?? "") + shown;
          const said = saidIn({ ...asked, answer: whole });
          const last = { said, segments: [...laid.at(-1)!.segments, ...(answer ? [answer.segment] : [])] };
          const key = keyAfterText(chain.at(-1)!, { ...asked, answer: whole });
          const tail = answer ? rest : [...begin, ...rest];
          const remembered = {
            key: known.sawMore ? ownKey(key) : key,
            window: { exchanges: [...laid.slice(0, -1), last], tail },
            end: endOfWindow(said),
          };
          records.remember(remembered.key, remembered.window, remembered.end);
          records.use(opening.filter(isBlockPiece).map(({ block }) => keyOf(block)));
          if (!shared) return undefined;
          await settled?.();
          return shared.remember(
            remembered,
            conversation === undefined ? undefined : { conversation: sha256("turns\n", client, conversation), after: chain.at(-1)! },
          );
        },
      };
    };
    return turn();
  }

  /** Copies what other servers know about the messages into the records, for `continue`; does nothing if servers share nothing. */
  async recall(messages: readonly Message[], options: Whose): Promise<void> {
    const { records, shared, tokenizer } = this.options;
    if (!shared) return;
    const { exchanges, chain, saidIn, ownKey, endOfWindow } = this.ask(messages, options);
    const lookups: Lookup[] = [];
    for (let exchange = chain.length - 2; exchange >= 0; exchange--) {
      const [key, own] = [chain[exchange + 1]!, ownKey(chain[exchange + 1]!)];
      if (records.window(key) || records.window(own)) break;
      lookups.push({ key, own, end: endOfWindow(saidIn(exchanges[exchange]!)) });
    }
    if (lookups.length === 0) return;
    const found = await shared.find(lookups);
    for (const { key, window, end } of found.toReversed()) if (isOf(window, tokenizer)) records.adopt(key, window, end);
  }

  private ask(messages: readonly Message[], options: Whose): Asked {
    const { setting, chat, tokenizer = this.options.tokenizer, nameOf: name = nameOf, client = "" } = options;
    const { keyOf } = this.options;
    const exchanges = exchangesOf(messages);
    const { opening, openingTokens, phrasing } = setting
      ? { ...setting, openingTokens: 0 }
      : this.ownSetting(exchanges[0]!, chat, tokenizer);
    const keys = opening.map((piece) => (isBlockPiece(piece) ? keyOf(piece.block) : keyAfter([], piece.tokens)));
    const linked = opening.some((piece) => isBlockPiece(piece) && piece.loose) ? setting?.link : undefined;
    const instructions = setting || chat || isInstructed(exchanges[0]!) ? (keys[0] ?? "") : "";
    const said = new Map<Exchange, string>();
    const keyAfterText = (before: string, exchange: Exchange) => keyAfterExchange(before, exchange, name);
    const chain = [sha256("conversation\n", ...keys, ...(linked === undefined ? [] : [linked]))];
    for (const exchange of exchanges.slice(0, -1)) chain.push(keyAfterText(chain.at(-1)!, exchange));
    return {
      exchanges,
      opening,
      openingTokens,
      phrasing,
      linked,
      keys,
      chain,
      saidIn(exchange) {
        if (!said.has(exchange)) said.set(exchange, saidIn(exchange, name));
        return said.get(exchange)!;
      },
      keyAfterText,
      ownKey: (key) => sha256("of one client\n", client, key),
      endOfWindow: (said) => sha256("end\n", client, instructions, said),
    };
  }

  private ownSetting(first: Exchange, chat: ChatTemplate | undefined, tokenizer: Tokenizer) {
    const { contextTokens } = this.options;
    const isOwn = chat === undefined && tokenizer === this.options.tokenizer;
    const phrasing = isOwn ? this.phrasing : chatPhrasing(tokenizer, chat ?? this.options.chat);
    // The opening is a system message or the first few tokens of the question: no more text is read than that needs.
    const most = (role: Message["role"]) => (role === "system" ? contextTokens : OPENING_TOKENS);
    const asked = first.asked.map((message) => ({ ...message, content: beginningOf(message.content, most(message.role), tokenizer) }));
    const openingTokens = phrasing.openingTokens(asked);
    const tokens = [...phrasing.ask(asked, { first: true }).flat(), ...phrasing.begin].slice(0, openingTokens);
    const opening: BlockPiece[] = [{ block: { tokens }, at: 0 }];
    return { opening, openingTokens, phrasing };
  }

  /**
   * The longest known part of the exchanges: identified by everything before it or, failing that, by how a conversation of
   * this client ended that had the same instructions, and began earlier or with other documents.
   */
  private longestKnown({ chain, exchanges, saidIn, ownKey, endOfWindow }: Asked): Known {
    const { records } = this.options;
    for (let exchange = chain.length - 2; exchange >= 0; exchange--) {
      const whole = records.window(chain[exchange + 1]!);
      if (whole) return { exchange, window: whole, sawMore: false };
      const own =
        records.window(ownKey(chain[exchange + 1]!)) ??
        likeWindow(records.endingWith(endOfWindow(saidIn(exchanges[exchange]!))), exchanges.slice(0, exchange + 1), saidIn);
      if (own) return { exchange, window: own, sawMore: true };
    }
    return { exchange: -1, window: { exchanges: [], tail: [] }, sawMore: false };
  }
}

/** Whether all of a window's tokens are in the model's vocabulary. */
function isOf({ exchanges, tail }: Window, { size }: Tokenizer): boolean {
  return [tail, ...exchanges.flatMap(({ segments }) => segments.map(({ tokens }) => tokens))].every((tokens) =>
    tokens.every((id) => id < size),
  );
}

/** Among windows with the same end, how many of these exchanges one contains: all, or only the newest. */
function likeWindow(windows: readonly Window[], asked: readonly Exchange[], saidIn: Asked["saidIn"]): Window | undefined {
  for (const { exchanges, tail } of windows) {
    const shared = exchanges.slice(-asked.length);
    const isLike = shared.every((each, i) => each.said === saidIn(asked[asked.length - shared.length + i]!));
    if (isLike && lengthOf(shared) >= LEAST_ALIKE_TOKENS) return { exchanges: shared, tail };
  }
  return undefined;
}

/** Without the first tokens, which are elsewhere. */
function without(count: number, runs: readonly (readonly number[])[]): number[][] {
  let left = count;
  return runs.map((tokens) => {
    const rest = tokens.slice(left);
    left = Math.max(0, left - tokens.length);
    return rest;
  });
}

/** Whether an exchange's texts have at most this many tokens; reads no more of them than needed. */
function isWithin({ asked, answer }: Exchange, tokens: number, tokenizer: Tokenizer): boolean {
  let left = tokens;
  return [...asked.map(({ content }) => content), ...(answer === undefined ? [] : [answer])].every((text) => {
    const ids = encodeWithin(tokenizer, text, left);
    left -= ids?.length ?? 0;
    return ids !== undefined;
  });
}

/** A text, or its beginning with slightly more than `tokens` tokens. */
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
    `The context holds ${contextTokens} tokens; the text before the last message takes ${start}, the last message ${taken}, ` +
      `and the answer may take ${answerTokens}. Shorten the message, use fewer documents, or lower max_tokens.`,
  );
}

/** The part of the answer without KV states, as tokens; undefined if text and tokens differ before it. */
function tailOf(
  text: string,
  tokens: readonly number[],
  finish: Answered["finish"],
  kept: readonly number[],
  tokenizer: Tokenizer,
): readonly number[] | undefined {
  if (finish !== "stop") return tokens.slice(kept.length);
  const before = tokenizer.decode(kept);
  return text.startsWith(before) ? tokenizer.encode(text.slice(before.length)) : undefined;
}

/** Identifies the texts of an exchange, without a system message that opens the conversation. */
function saidIn({ asked, answer = "" }: Exchange, nameOf: NameOf): string {
  const said = asked.filter(({ role }, index) => index > 0 || role !== "system");
  return sha256("said\n", JSON.stringify([said.map((message) => named(message, nameOf)), nameOf(answer)]));
}

/** The part of a message that identifies it. */
function named({ role, content, written }: Message, nameOf: NameOf): readonly unknown[] {
  return written ? [role, nameOf(content), written.open, written.close] : [role, nameOf(content)];
}

function isInstructed({ asked }: Exchange): boolean {
  return asked[0]?.role === "system";
}

/** The key of what was said up to the end of an exchange. */
function keyAfterExchange(before: string, { asked, answer = "" }: Exchange, nameOf: NameOf): string {
  return sha256(before, JSON.stringify([asked.map((message) => named(message, nameOf)), nameOf(answer)]));
}

/** The key of tokens that saw the text of these keys, in this order and without gaps. */
function keyAfter(keys: readonly string[], tokens: readonly number[]): string {
  return sha256("segment\n", ...keys, Int32Array.from(tokens));
}

function sha256(...parts: readonly (string | Int32Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}
