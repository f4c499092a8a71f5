import { withoutCache } from "../../engine/index.js";
import type { Corpus, Source } from "../../rag/index.js";
import type { Service } from "../service.js";
import type { AskEvent } from "./events.js";
import { type BlockName, describePieces } from "./pieces.js";
import type { Runner } from "./race.js";

export type Question = { readonly text: string; readonly topK: number; readonly linkTokens: number };

/** What is to be answered, and what is known of it before the first token. */
export type Prepared = { readonly plan: Extract<AskEvent, { type: "plan" }>; readonly runners: readonly [spliced: Runner, full: Runner] };

/** Retrieves a question's documents and lays out its prompt. */
export async function prepareQuestion({ text, topK, linkTokens }: Question, corpus: Corpus, service: Service, signal: AbortSignal): Promise<Prepared> {
  const start = performance.now();
  const sources = await corpus.retrieve(text, { topK, signal });
  const plan = corpus.plan(text, sources, { linkTokens });
  const retrieve_ms = performance.now() - start;
  const pieces = await describePieces(plan, service, ({ tokens }) => nameOf(tokens, sources));
  return {
    plan: { type: "plan", retrieve_ms, pieces, sources: sources.map(({ title, ref, tokens }) => ({ title, ref, tokens: tokens.length })) },
    runners: [
      { name: "spliced", plan },
      { name: "full", plan: withoutCache(corpus.plan(text, sources, { linkTokens: 0 })) },
    ],
  };
}

/** The corpus lays a source's own tokens into the plan, so a block knows its source. */
function nameOf(tokens: readonly number[], sources: readonly Source[]): BlockName {
  const source = sources.findIndex((each) => each.tokens === tokens);
  return source < 0 ? { label: "instructions" } : { label: sources[source]!.title, source };
}
