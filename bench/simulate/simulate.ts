import { mulberry, zipf } from "./random.js";
import type { Way } from "./routing.js";

/** Measured speeds of one server, in milliseconds and bytes. */
export type Speeds = {
  /** First token of a question whose KV is in memory, on an idle server. */
  readonly first_ms: number;
  /** A further token of an answer, by the number of answers computed together. */
  readonly token_ms: (together: number) => number;
  /** Encoding one token. */
  readonly encode_ms: number;
  /** Reading one token's KV from the shared tier. */
  readonly fetch_ms: number;
  readonly bytesPerToken: number;
  /** Answers computed together. */
  readonly places: number;
};

export type Load = {
  readonly servers: number;
  readonly perSecond: number;
  readonly seconds: number;
  /** Corpora, and documents of each; both are requested by Zipf's law with this exponent. */
  readonly corpora: number;
  readonly documents: number;
  readonly exponent: number;
  readonly documentTokens: number;
  readonly documentsPerQuestion: number;
  readonly turns: number;
  readonly answerTokens: number;
  /** For the first few of every few seconds, there are this many times as many questions. */
  readonly burst: { readonly seconds: number; readonly every: number; readonly times: number };
  /** Tokens whose KV fits into a server's memory. */
  readonly memoryTokens: number;
  /** Share of all documents that the shared tier has. */
  readonly encodedShare: number;
  /** Limits within which an answer counts as good. */
  readonly goal: { readonly first_ms: number; readonly token_ms: number };
};

export type Outcome = {
  readonly questions: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  /** Share of answers within both limits. */
  readonly good: number;
  /** Share of the tokens read that were in memory. */
  readonly inMemory: number;
  readonly moved_bytes: number;
};

/** One server of the simulation. */
export type Server = {
  /** When each of its places becomes free. */
  readonly free: Float64Array;
  /** KV in memory, most recently used last: name -> tokens. */
  readonly memory: Map<number, number>;
  held: number;
  running: number;
};

export type Question = {
  readonly corpus: number;
  readonly conversation: number;
  readonly documents: readonly number[];
  readonly history: number;
};

/**
 * Replays arrivals over servers: each question goes where the routing method sends it, waits for a place, fetches what is not in
 * memory, encodes what is missing, and occupies its place during its answer.
 */
export function simulate(load: Load, speeds: Speeds, way: Way, seed = 1): Outcome {
  const random = mulberry(seed);
  const [corpusOf, documentOf] = [zipf(load.corpora, load.exponent, random), zipf(load.documents, load.exponent, random)];
  const servers: Server[] = Array.from({ length: load.servers }, () => ({
    free: new Float64Array(speeds.places),
    memory: new Map(),
    held: 0,
    running: 0,
  }));
  const firsts: number[] = [];
  let [good, moved, read, inMemory] = [0, 0, 0, 0];
  const conversations: { readonly id: number; readonly corpus: number; left: number; history: number }[] = [];
  let nextConversation = 1;
  for (let now = 0; now < load.seconds * 1000; ) {
    const inBurst = (now / 1000) % load.burst.every < load.burst.seconds;
    now += (-Math.log(1 - random()) * 1000) / (load.perSecond * (inBurst ? load.burst.times : 1));
    // Enough conversations are open that each returns after some time.
    const isNew = conversations.length < load.perSecond * 5 || random() < 0.1;
    const at = Math.floor(random() * conversations.length);
    const conversation = isNew ? { id: nextConversation++, corpus: corpusOf(), left: load.turns, history: 0 } : conversations[at]!;
    if (isNew) conversations.push(conversation);
    const documents = Array.from({ length: load.documentsPerQuestion }, () => conversation.corpus * load.documents + documentOf());
    const question: Question = { corpus: conversation.corpus, conversation: conversation.id, documents, history: conversation.history };
    for (const server of servers) server.running = countAfter(server.free, now);
    const server = servers[way.choose(question, servers, now, random)]!;

    let [fetched, encoded] = [0, 0];
    const use = (name: number, tokens: number, isEncoded: boolean) => {
      read += tokens;
      const known = server.memory.get(name);
      if (known !== undefined) server.memory.delete(name);
      inMemory += Math.min(known ?? 0, tokens);
      const missing = Math.max(0, tokens - (known ?? 0));
      if (isEncoded) fetched += missing;
      else encoded += missing;
      server.memory.set(name, tokens);
      server.held += tokens - (known ?? 0);
      for (const [oldest, size] of server.memory) {
        if (server.held <= load.memoryTokens) break;
        server.memory.delete(oldest);
        server.held -= size;
      }
    };
    for (const document of documents) use(document, load.documentTokens, hash(document) < load.encodedShare);
    if (conversation.history > 0) use(-conversation.id, conversation.history, true);
    moved += fetched * speeds.bytesPerToken;

    const place = server.free.indexOf(least(server.free));
    const begin = Math.max(now, server.free[place]!);
    const together = Math.min(speeds.places, server.running + 1);
    const compute = (speeds.first_ms + encoded * speeds.encode_ms) * Math.sqrt(together) + fetched * speeds.fetch_ms;
    const first_ms = begin - now + compute;
    const token_ms = speeds.token_ms(together);
    server.free[place] = begin + compute + load.answerTokens * token_ms;
    firsts.push(first_ms);
    if (first_ms <= load.goal.first_ms && token_ms <= load.goal.token_ms) good++;
    conversation.history += load.answerTokens + 20;
    if (--conversation.left === 0) conversations.splice(conversations.indexOf(conversation), 1);
  }
  firsts.sort((a, b) => a - b);
  const quantile = (share: number) => firsts[Math.min(firsts.length - 1, Math.floor(share * firsts.length))] ?? 0;
  return {
    questions: firsts.length,
    p50_ms: quantile(0.5),
    p99_ms: quantile(0.99),
    good: good / firsts.length,
    inMemory: inMemory / read,
    moved_bytes: moved,
  };
}

export function least(values: Float64Array): number {
  let found = Infinity;
  for (let i = 0; i < values.length; i++) if (values[i]! < found) found = values[i]!;
  return found;
}

function countAfter(values: Float64Array, now: number): number {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i]! > now) count++;
  return count;
}

/** A number from 0 to 1 derived from a name. */
export function hash(name: number): number {
  let x = Math.imul(name ^ 0x9e3779b9, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
}
