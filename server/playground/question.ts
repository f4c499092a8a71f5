import { withoutCache } from "../../engine/index.js";
import { type Asker, type PreparedRequest, prepareRequest } from "../prepare.js";
import type { ChatRequest } from "../requests/chat.js";
import { samplingOf } from "../requests/sampling.js";
import type { Service } from "../service.js";
import type { AskEvent } from "./events.js";
import { type BlockName, describePieces } from "./pieces.js";
import type { Runner } from "./race.js";

/** What to answer, and the plan to show before the first token. */
export type Prepared = { readonly plan: Extract<AskEvent, { type: "plan" }>; readonly runners: readonly [spliced: Runner, full: Runner] };

/** Retrieves documents for a conversation's last question and lays out its prompt, as `/v1/chat/completions` does. */
export async function prepareQuestion(request: ChatRequest, service: Service, asker: Asker): Promise<Prepared> {
  const { corpus, model } = service;
  const prompt = await prepareRequest(request, service, asker);
  const { plan, citations, retrieve_ms, found = true, turn } = prompt;
  const chunks = citations.flatMap(({ ref }) => (ref === undefined ? [] : corpus.chunk(ref)));
  const names = new Map<string, BlockName>(
    chunks.map(({ ref, title }, source) => [model.keyOf(corpus.blockOf(ref)), { label: title, source }]),
  );
  const sources = chunks.map(({ title, ref, tokens }) => ({ title, ref, tokens: tokens.length }));
  const pieces = await describePieces(plan, service, (block) => names.get(model.keyOf(block)) ?? { label: "instructions" });
  const sampling = samplingOf(request);
  return {
    plan: { type: "plan", retrieve_ms, pieces, sources, found, dropped: turn?.dropped ?? 0 },
    runners: [
      { name: "spliced", prompt, sampling },
      { name: "full", prompt: await uncached(prompt, request, service, asker), sampling },
    ],
  };
}

/** The same prompt with nothing cached, and without link tokens, which are for separately encoded documents. */
async function uncached(prompt: PreparedRequest, request: ChatRequest, service: Service, asker: Asker): Promise<PreparedRequest> {
  const documents = prompt.citations.flatMap(({ ref }) => ref ?? []);
  const linkless =
    documents.length === 0 ? prompt : await prepareRequest({ ...request, corpus: undefined, documents, link_tokens: 0 }, service, asker);
  const { plan, maxNewTokens, stop } = linkless;
  return { plan: withoutCache(plan), citations: [], maxNewTokens, stop, retrieve_ms: 0 };
}
