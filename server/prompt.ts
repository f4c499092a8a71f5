import type { Turn } from "../chat/index.js";
import { type Link, parseLink } from "../engine/index.js";
import { type BlockSource, encodeWithin, endOf, type Piece, type Plan, PlanWriter } from "../plan/index.js";
import { splitDocument, type Source } from "../rag/index.js";
import type { ChatRequest } from "./chat-request.js";
import { ApiError } from "./error.js";
import type { Limits, Service } from "./service.js";

/** A document that the model reads for an answer; `ref` where it is the corpus's. */
export type Citation = { readonly ref?: string; readonly title: string; readonly page?: number; readonly text: string; readonly score?: number };

/** What is asked of the engine for one request. */
export type Prompt = {
  readonly plan: Plan;
  /** The best first. */
  readonly citations: readonly Citation[];
  readonly maxNewTokens: number;
  /** How its documents are linked. */
  readonly link?: Link;
  /** Texts that end the answer. */
  readonly stop: readonly string[];
  readonly retrieve_ms: number;
  /** Where the prompt is a turn of a conversation. */
  readonly turn?: Turn;
};

/** Most tokens of a chat's answer that sets no limit. */
const CHAT_TOKENS = 512;
/** Of the context, what is kept free for an answer; one that may be longer has what the prompt leaves. */
const ANSWER_SHARE = 1 / 4;

/** Markup may have more tokens than the prompt that it stands for, but not so many times more. */
const MARKUP_SHARE = 4;

/**
 * Lays out a request's prompt: messages by the model's chat template, or over documents as its card has it, or PML.
 * @throws ApiError 404 for a corpus, document or schema that is not there, 400 for markup with errors
 * @throws KvspliceError `too_long` where the context does not hold prompt and answer, and those of `Corpus.retrieve`
 */
export async function promptOf(request: ChatRequest, service: Service, signal: AbortSignal): Promise<Prompt> {
  if (request.schema != null) return schemaPrompt(request, service);
  if (request.corpus == null && request.documents == null) return chatPrompt(request, service);
  return documentsPrompt(request, service, signal);
}

function schemaPrompt(request: ChatRequest, service: Service): Prompt {
  const { schemas, corpus, model, limits } = service;
  if (!schemas) throw new ApiError(404, "This server has no schemas; start it with --schemas DIR.", { param: "schema", code: "schema_not_found" });
  mustFit(request.prompt!, "prompt", service, MARKUP_SHARE);
  const { plan, end } = schemas.compile(request.schema!, request.prompt!, { documents: corpus.blockOf, data: request.data ?? {} });
  const asked = answerLimit(request) ?? model.card.maxAnswerTokens;
  const room = limits.contextTokens - end;
  if (room < Math.min(asked, reserved(limits))) {
    const message = `The context holds ${limits.contextTokens} tokens; the prompt takes ${end} and the answer may take ${asked}. Include fewer modules, or lower max_tokens.`;
    throw new ApiError(400, message, { param: "prompt", code: "context_length_exceeded" });
  }
  const maxNewTokens = Math.min(asked, room);
  return { plan, citations: [], maxNewTokens, stop: request.stop, retrieve_ms: 0 };
}

function chatPrompt(request: ChatRequest, { conversations, limits, model }: Service): Prompt {
  const asked = answerLimit(request) ?? Math.min(CHAT_TOKENS, reserved(limits));
  const stop = [...model.chat.stop, ...request.stop];
  const turn = conversations.continue(request.messages, { answerTokens: Math.min(asked, reserved(limits)), stop });
  const maxNewTokens = withinContext(asked, turn.plan, limits);
  return { plan: turn.plan, turn, citations: [], maxNewTokens, stop, retrieve_ms: 0 };
}

async function documentsPrompt(request: ChatRequest, service: Service, signal: AbortSignal): Promise<Prompt> {
  const { conversations, corpus, limits, model } = service;
  mustFit(request.messages.at(-1)!.content, "messages", service);
  const start = performance.now();
  const { citations, chunks } = request.corpus == null ? await given(request, service, signal) : await retrieved(request, service, signal);
  const retrieve_ms = performance.now() - start;
  const asked = answerLimit(request) ?? model.card.maxAnswerTokens;
  const stop = [...(model.card.stop ?? []), ...request.stop];
  const plan = corpus.plan("", chunks, request.link_tokens == null ? {} : { linkTokens: request.link_tokens });
  const instructions = request.messages.findIndex(({ role }) => role !== "system");
  const opening = withInstructions(plan.pieces.slice(0, -1), request.messages.slice(0, instructions), service);
  const turn = conversations.continue(request.messages.slice(instructions), {
    answerTokens: Math.min(asked, reserved(limits)),
    stop,
    setting: { opening, phrasing: questionPhrasing(service) },
  });
  const maxNewTokens = withinContext(asked, turn.plan, limits);
  const link = request.link == null || request.link === "auto" ? corpus.link : parseLink(request.link);
  return { plan: turn.plan, turn, citations, maxNewTokens, stop, link, retrieve_ms };
}

/** What is cited, and the chunks that are laid: both with the best first. */
type Documents = { readonly citations: readonly Citation[]; readonly chunks: readonly BlockSource[] };

async function retrieved(request: ChatRequest, { corpus, corpusName }: Service, signal: AbortSignal): Promise<Documents> {
  if (request.corpus !== true && request.corpus !== corpusName) {
    throw new ApiError(404, `There is no corpus of this name; this server has '${corpusName}'.`, { param: "corpus", code: "corpus_not_found" });
  }
  const question = request.messages.at(-1)!.content;
  const chunks = await corpus.retrieve(question, { signal, ...(request.top_k != null && { topK: request.top_k }) });
  return { citations: chunks.map(cite), chunks };
}

async function given(request: ChatRequest, { corpus, model, limits }: Service, signal: AbortSignal): Promise<Documents> {
  const documents: { citation: Citation; chunks: readonly BlockSource[] }[] = [];
  for (const document of request.documents!) {
    if (typeof document === "string") {
      const { ref, title, text, tokens } = corpus.chunk(document);
      documents.push({ citation: { ref, title, text }, chunks: [{ tokens }] });
      continue;
    }
    const { tokenizer, card } = model;
    const given = { path: "", title: document.title, paragraphs: [{ text: document.text }] };
    documents.push({ citation: document, chunks: await splitDocument(given, { tokenizer, card, mostTokens: limits.contextTokens, signal }) });
  }
  // The plan has the best source last, so the chunks of one text are given from its end: there they stand in order.
  return { citations: documents.map(({ citation }) => citation), chunks: documents.flatMap(({ chunks }) => [...chunks].reverse()) };
}

/**
 * Before anything is done with a text that has to be in the context as a whole: no more of it is read than tells that.
 * @throws ApiError 400
 */
function mustFit(text: string, param: string, { model, limits }: Service, share = 1): void {
  if (encodeWithin(model.tokenizer, text, share * limits.contextTokens)) return;
  const message = `The context holds ${limits.contextTokens} tokens, and ${param === "prompt" ? "the prompt" : "one message"} takes more than that. Shorten it.`;
  throw new ApiError(400, message, { param, code: "context_length_exceeded" });
}

/** The client's own system message takes the place of the card's; what follows moves up. */
function withInstructions(opening: readonly Piece[], instructions: ChatRequest["messages"], service: Service): readonly Piece[] {
  const { tokenizer, chat } = service.model;
  if (instructions.length === 0) return opening;
  const system = chat.frame("system", undefined);
  const text = instructions.map(({ content }) => content).join("\n");
  mustFit(text, "messages", service);
  const control = (each: string) => tokenizer.encode(each, { control: true });
  const tokens = [...control(system.open), ...tokenizer.encode(chat.content("system", text)), ...control(system.close), ...control(chat.frame("user", "system").open)];
  return new PlanWriter().block({ tokens }).moved(opening.slice(1)).pieces;
}

/** Questions as the card has them. What was said since the last answer is one question: the model knows no other form. */
function questionPhrasing({ corpus, model: { tokenizer, chat } }: Service) {
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const afterAnswer = control(chat.frame("assistant", "user").close);
  const user = control(chat.frame("user", "assistant").open);
  return {
    afterAnswer,
    ask(asked: ChatRequest["messages"], { first }: { readonly first: boolean }): number[] {
      const question = corpus.plan(asked.map(({ content }) => content).join("\n"), []).pieces.at(-1) as { readonly tokens: readonly number[] };
      return [...(first ? [] : user), ...question.tokens];
    },
  };
}

function reserved({ contextTokens }: Limits): number {
  return Math.floor(contextTokens * ANSWER_SHARE);
}

/** As many tokens of an answer as were asked for, or as there is room for behind its prompt. */
function withinContext(asked: number, { pieces }: Plan, { contextTokens }: Limits): number {
  return Math.min(asked, contextTokens - endOf(pieces.at(-1)!));
}

function answerLimit({ max_completion_tokens, max_tokens }: ChatRequest): number | undefined {
  return max_completion_tokens ?? max_tokens ?? undefined;
}

function cite({ ref, title, page, text, score }: Source): Citation {
  return { ref, title, ...(page === undefined ? {} : { page }), text, score };
}
