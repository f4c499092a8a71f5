/**
 * What kvsplice's server adds to OpenAI's API, for TypeScript programs that use an OpenAI client: types and two functions,
 * without dependencies.
 *
 *     const completion = await openai.chat.completions.create({ model, messages, ...asking({ corpus: { documents: 4 } }) });
 *     for (const { title, url } of answering(completion).sources) console.log(title, url);
 */

/** A text to answer from. */
export type GivenDocument = {
  /** Empty by default. */
  readonly title?: string;
  readonly text: string;
  /** Its URL for citations; without one, it is not cited. */
  readonly url?: string;
};

/** Fields of a chat request in addition to OpenAI's. */
export type OwnFields = {
  /** Answers over a corpus of the server: true for the only one, its name, or an object with the number of documents (default: 10). */
  readonly corpus?: true | string | { readonly name?: string; readonly documents?: number };
  /** Answers over these texts, or refs of a corpus's chunks, such as `forth-bridge.md#2`. Best first, up to 100. None by default. */
  readonly documents?: readonly (string | GivenDocument)[];
  /** Ends the answer's text with a list of its sources; false by default. */
  readonly citations?: boolean;
  /** How separately encoded documents are linked; `auto` by default. See docs/linking.md. */
  readonly link?: string;
  /** Trained tokens after each document; by default, the number that measured best for the model. */
  readonly link_tokens?: number;
  /** The server's PML schema that `prompt` uses; none by default. */
  readonly schema?: string;
  /** PML markup; required with `schema`. */
  readonly prompt?: string;
  /** Values for the prompt; none by default. */
  readonly data?: Readonly<Record<string, unknown>>;
  /** Samples from this many most likely tokens; all by default. */
  readonly top_k?: number;
  /** Excludes tokens with less than this share of the most likely token's probability, 0 to 1; 0 by default. */
  readonly min_p?: number;
  /** Above 1 discourages repetition; 1 by default, which changes nothing. */
  readonly repetition_penalty?: number;
  /** Whether to read the KV of earlier answers and store this one's; true by default. */
  readonly cache_prompt?: boolean;
  /** Maximum tokens of prompt and answer together; the server's limit by default. */
  readonly num_ctx?: number;
};

/** A document that an answer is based on. Sources are listed best first. */
export type AnswerSource = {
  /** The corpus's name, and the chunk's ref in it. */
  readonly corpus?: string;
  readonly ref?: string;
  readonly url?: string;
  readonly title: string;
  readonly text: string;
  /** The page it begins on, from 1. */
  readonly page?: number;
  /** Only comparable among the sources of one question. */
  readonly score?: number;
};

/** What an answer cost: times in milliseconds, and the prompt's tokens by how their KV was obtained. */
export type AnswerCost = {
  readonly retrieve_ms: number;
  readonly queue_ms: number;
  readonly fetch_ms: number;
  readonly splice_ms: number;
  readonly look_ms: number;
  readonly first_token_ms: number;
  readonly per_token_ms: number;
  readonly total_ms: number;
  /** Tokens whose KV was in the store. */
  readonly cached_tokens: number;
  /** Tokens of blocks that were missing. */
  readonly encoded_tokens: number;
  /** Those of them that workers encoded, and the wait for that; missing if they encoded none. */
  readonly elsewhere_tokens?: number;
  readonly elsewhere_ms?: number;
  readonly computed_tokens: number;
  readonly recomputed_tokens: number;
  /** Exchanges of the conversation that no longer fit in the context. */
  readonly dropped_exchanges: number;
  /** If servers share conversations: the turn's number, and that of an earlier answer to the same point, if there is one. */
  readonly conversation?: { readonly turn: number; readonly beside?: number };
};

/** What the server says about an answer in addition to OpenAI's fields. */
export type OwnAnswer = {
  /** Empty if the answer is not based on documents. In a stream, the first chunk has them. */
  readonly sources: readonly AnswerSource[];
  /** In a stream, the chunk with `finish_reason` has it. */
  readonly cost: AnswerCost | undefined;
  /** Warnings about ignored parts of the request. */
  readonly warnings: readonly string[];
};

/** Returns the fields unchanged, with their types checked, to be spread into a request. */
export function asking(fields: OwnFields): OwnFields {
  return fields;
}

/** Reads kvsplice's fields from a completion or from a chunk of a stream. */
export function answering(completion: object): OwnAnswer {
  const { kvsplice = {}, warnings = [] } = completion as {
    readonly kvsplice?: Partial<AnswerCost> & { readonly sources?: readonly AnswerSource[] };
    readonly warnings?: readonly string[];
  };
  const { sources = [], ...cost } = kvsplice;
  return { sources, cost: cost.total_ms === undefined ? undefined : (cost as AnswerCost), warnings };
}
