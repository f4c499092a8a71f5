import { type ContinueOptions, type Conversations, type Message, namesOf, type Turn, toolForm, type Whose } from "../chat/index.js";
import { type Grammar, type Link, linkText, parseLink } from "../engine/index.js";
import { type BlockSource, encodeWithin, endOf, inSlices, type Piece, type Plan, PlanWriter, type Tokenizer } from "../plan/index.js";
import { type Fields, questionTokens, type Source, splitDocument, type Where } from "../rag/index.js";
import { type Constrained, constrained, type ToolUse } from "./constraint.js";
import { ApiError } from "./error.js";
import type { ChatRequest } from "./requests/chat.js";
import { spokenRequest } from "./requests/spoken.js";
import type { Limits, Service } from "./service.js";
import { spanned } from "./trace.js";

/** A document that the model reads for an answer; `corpus` and `ref` if it is from a corpus, `url` if the client gave one. */
export type Citation = {
  readonly corpus?: string;
  readonly ref?: string;
  readonly url?: string;
  readonly title: string;
  readonly page?: number;
  readonly date?: string;
  readonly fields?: Fields;
  readonly text: string;
  readonly score?: number;
};

/** What the engine gets for one request. */
export type PreparedRequest = {
  readonly plan: Plan;
  /** Best first. */
  readonly citations: readonly Citation[];
  readonly maxNewTokens: number;
  /** How the documents are linked. */
  readonly link?: Link;
  /** Texts that end the answer. */
  readonly stop: readonly string[];
  /** Whether the answer continues the assistant's last message. */
  readonly continues?: boolean;
  readonly retrieve_ms: number;
  /** False if nothing was found in the corpus. The model then answers without documents. */
  readonly found?: false;
  /** Set if the prompt is a turn of a conversation. */
  readonly turn?: Turn | undefined;
  /** The grammar of the answer. */
  readonly grammar?: Grammar;
  /** The functions that the answer may call. */
  readonly tools?: ToolUse;
  /** Warnings about constraints that cannot be enforced. */
  readonly warnings?: readonly string[];
};

/** The client that waits for an answer. */
export type Asker = {
  /** See `clientOf`. */
  readonly client: string;
  /** The conversation that the client names. */
  readonly conversation?: string | undefined;
  readonly signal: AbortSignal;
};

/** Maximum tokens of a chat's answer if the request sets none. */
const CHAT_TOKENS = 512;
/** Share of the context reserved for an answer. A longer answer gets what the prompt leaves. */
const ANSWER_SHARE = 1 / 4;

/** Markup may have more tokens than its prompt, but at most this many times the context. */
export const MARKUP_SHARE = 4;

/**
 * Lays out a request's prompt: messages by the model's chat template, questions over documents by its card, or PML.
 * @throws ApiError 404 for an unknown corpus, document or schema, 400 for markup with errors
 * @throws KvspliceError `too_long` if prompt and answer do not fit in the context, and those of `Corpus.retrieve`
 */
export async function prepareRequest(request: ChatRequest, whole: Service, asker: Asker): Promise<PreparedRequest> {
  const service = contextFor(request, whole);
  const holding = await constrained(request, service, asker.signal);
  return { ...(await laidOut(request, service, holding, asker)), ...holding };
}

async function laidOut(request: ChatRequest, service: Service, { tools }: Constrained, asker: Asker): Promise<PreparedRequest> {
  if (request.schema != null) return schemaPrompt(request, service, asker);
  const overDocuments = request.corpus != null || request.documents != null;
  const form = tools ?? toolForm(service.model.chat);
  const messages = spokenRequest(request.messages, overDocuments ? { ...form, turns: undefined } : form); // questions over documents follow the card, which has only text
  const prompt = overDocuments
    ? await documentsPrompt(request, messages, service, asker)
    : await chatPrompt(request, messages, service, { ...asker, tools });
  return { ...prompt, continues: messages.at(-1)!.role === "assistant" };
}

/** The service with the context length that a request asks for. */
export function contextFor({ num_ctx }: { readonly num_ctx?: number | null | undefined }, service: Service): Service {
  return num_ctx == null
    ? service
    : { ...service, limits: { ...service.limits, contextTokens: Math.min(num_ctx, service.limits.contextTokens) } };
}

async function schemaPrompt(request: ChatRequest, service: Service, { signal }: Asker): Promise<PreparedRequest> {
  const { schemas, corpus, model, limits } = service;
  if (!schemas)
    throw new ApiError(404, "This server has no schemas. Start it with --schemas DIR.", { param: "schema", code: "schema_not_found" });
  await mustFit(request.prompt!, "prompt", service, { share: MARKUP_SHARE, signal });
  const { plan, end } = schemas.compile(request.schema!, request.prompt!, { documents: corpus.blockOf, data: request.data ?? {} });
  const asked = answerLimit(request) ?? model.card.maxAnswerTokens;
  const room = limits.contextTokens - end;
  if (room < Math.min(asked, reserved(limits))) {
    const message = `The context holds ${limits.contextTokens} tokens; the prompt takes ${end} and the answer may take ${asked}. Include fewer modules, or lower max_tokens.`;
    throw new ApiError(400, message, { param: "prompt", code: "context_length_exceeded" });
  }
  const maxNewTokens = Math.min(asked, room);
  const link = request.link == null ? service.link : linkAsked(request.link, corpus.link);
  return { plan, citations: [], maxNewTokens, stop: request.stop, ...(link && { link }), retrieve_ms: 0 };
}

async function chatPrompt(
  request: ChatRequest,
  messages: readonly Message[],
  { conversations, limits, model }: Service,
  { client, conversation, signal, tools }: Asker & { readonly tools: ToolUse | undefined },
): Promise<PreparedRequest> {
  const asked = answerLimit(request) ?? Math.min(CHAT_TOKENS, reserved(limits));
  const stop = [...model.chat.stop, ...request.stop];
  const whose = { client, ...(tools && { chat: tools.chat }) };
  const options = { answerTokens: Math.min(asked, reserved(limits)), contextTokens: limits.contextTokens, stop, conversation };
  const turn = await nextTurn(conversations, messages, { ...options, signal, tokenizer: model.tokenizer }, () => whose);
  const maxNewTokens = withinContext(asked, turn.plan, limits);
  return { plan: turn.plan, turn, citations: [], maxNewTokens, stop, retrieve_ms: 0 };
}

async function documentsPrompt(
  request: ChatRequest,
  messages: readonly Message[],
  service: Service,
  { client, conversation, signal }: Asker,
): Promise<PreparedRequest> {
  const { conversations, corpus, limits, model } = service;
  await mustFit(messages.at(-1)!.content, "messages", service, { signal });
  const start = performance.now();
  const { citations, chunks } = request.corpus
    ? await spanned(
        "retrieve",
        () => retrieved(request.corpus!, messages, service, signal),
        ({ chunks }) => ({ "kvsplice.chunks": chunks.length }),
      )
    : await given(request, service, signal);
  const retrieve_ms = performance.now() - start;
  const plan = corpus.plan("", chunks, request.link_tokens == null ? {} : { linkTokens: request.link_tokens });
  if (request.corpus && chunks.length === 0)
    return {
      ...(await chatPrompt(request, messages, service, { client, conversation, signal, tools: undefined })),
      retrieve_ms,
      found: false,
    };
  const asked = answerLimit(request) ?? model.card.maxAnswerTokens;
  const stop = [...(model.card.stop ?? []), ...request.stop];
  const instructions = messages.findIndex(({ role }) => role !== "system");
  const instructed =
    instructions === 0
      ? undefined
      : messages
          .slice(0, instructions)
          .map(({ content }) => content)
          .join("\n");
  if (instructed !== undefined) await mustFit(instructed, "messages", service, { signal });
  const link = request.link == null ? (service.link ?? corpus.link) : linkAsked(request.link, corpus.link);
  const options = { answerTokens: Math.min(asked, reserved(limits)), contextTokens: limits.contextTokens, stop, conversation };
  const turn = await nextTurn(
    conversations,
    messages.slice(instructions),
    { ...options, signal, tokenizer: model.tokenizer },
    (tokenizer) => ({
      client,
      setting: {
        opening: withInstructions(plan.pieces.slice(0, -1), instructed, tokenizer, service),
        phrasing: questionPhrasing(tokenizer, service),
        ...(link.kind !== "none" && { link: linkText(link) }),
      },
    }),
  );
  const maxNewTokens = withinContext(asked, turn.plan, limits);
  return { plan: turn.plan, turn, citations, maxNewTokens, stop, link, retrieve_ms };
}

type TurnOptions = Omit<ContinueOptions, keyof Whose> & {
  readonly contextTokens: number;
  readonly signal: AbortSignal;
  readonly tokenizer: Tokenizer;
};

/** The conversation's next turn, including what other servers know of it. Other requests run while long messages are read. */
async function nextTurn(
  conversations: Conversations,
  messages: readonly Message[],
  { signal, tokenizer, ...options }: TurnOptions,
  whoseBy: (tokenizer: Tokenizer) => Whose,
): Promise<Turn> {
  const texts = messages.map(({ content }) => content);
  const nameOf = await namesOf(texts, signal);
  return inSlices(tokenizer, { most: options.contextTokens, signal }, async (reader) => {
    const whose = { ...whoseBy(reader), tokenizer: reader, nameOf };
    await conversations.recall(messages, whose);
    return conversations.continue(messages, { ...options, ...whose });
  });
}

/** The cited documents and their chunks, both best first. */
type Documents = { readonly citations: readonly Citation[]; readonly chunks: readonly BlockSource[] };

/** Retrieves documents for the user's last message, in the context of the earlier ones. */
async function retrieved(
  { documents, where, floor }: NonNullable<ChatRequest["corpus"]>,
  messages: readonly Message[],
  service: Service,
  signal: AbortSignal,
): Promise<Documents> {
  const { corpus, corpusName } = service;
  const asked = messages.findLastIndex(({ role }) => role === "user");
  const chunks = await corpus.retrieve(messages[asked]!.content, {
    signal,
    history: messages.slice(0, asked),
    where: (where ?? undefined) as Where | undefined,
    floor: floor ?? service.floor,
    ...(documents != null && { topK: documents }),
  });
  return { citations: chunks.map((chunk) => cite(chunk, corpusName)), chunks };
}

async function given(request: ChatRequest, { corpus, corpusName, model, limits }: Service, signal: AbortSignal): Promise<Documents> {
  const documents: { citation: Citation; chunks: readonly BlockSource[] }[] = [];
  for (const document of request.documents!) {
    if (typeof document === "string") {
      const { ref, title, text, tokens } = corpus.chunk(document);
      documents.push({ citation: { corpus: corpusName, ref, title, text }, chunks: [{ tokens }] });
      continue;
    }
    const { tokenizer, card } = model;
    const given = { path: "", title: document.title, paragraphs: [{ text: document.text }] };
    const { url, ...text } = document;
    documents.push({
      citation: { ...(url != null && { url }), ...text },
      chunks: await splitDocument(given, { tokenizer, card, mostTokens: limits.contextTokens, signal }),
    });
  }
  // The plan puts the best source last, so a text's chunks are listed in reverse to be in order there.
  return { citations: documents.map(({ citation }) => citation), chunks: documents.flatMap(({ chunks }) => [...chunks].reverse()) };
}

/**
 * Checks that a text fits into the context, before anything else is done with it. Reads no more of it than needed.
 * @throws ApiError 400 if it does not fit
 */
export async function mustFit(
  text: string,
  param: string,
  { model, limits }: Service,
  { share = 1, signal }: { readonly share?: number; readonly signal: AbortSignal },
): Promise<void> {
  const most = share * limits.contextTokens;
  if (await inSlices(model.tokenizer, { most, signal }, (tokenizer) => encodeWithin(tokenizer, text, most))) return;
  const message = `The context holds ${limits.contextTokens} tokens, and ${param === "messages" ? "one message" : `the ${param}`} takes more than that. Shorten it.`;
  throw new ApiError(400, message, { param, code: "context_length_exceeded" });
}

/** Replaces the card's system message with the client's and moves the rest up. */
function withInstructions(
  opening: readonly Piece[],
  instructions: string | undefined,
  tokenizer: Tokenizer,
  { model: { chat } }: Service,
): readonly Piece[] {
  if (instructions === undefined) return opening;
  const system = chat.frame("system", undefined);
  const control = (each: string) => tokenizer.encode(each, { control: true });
  const tokens = [
    ...control(system.open),
    ...tokenizer.encode(chat.content("system", instructions)),
    ...control(system.close),
    ...control(chat.frame("user", "system").open),
  ];
  return new PlanWriter().block({ tokens }).moved(opening.slice(1)).pieces;
}

/** Phrases questions by the card. All messages since the last answer form one question: the model knows no other form. */
function questionPhrasing(tokenizer: Tokenizer, { model: { card, chat } }: Service) {
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const afterAnswer = control(chat.frame("assistant", "user").close);
  const user = control(chat.frame("user", "assistant").open);
  return {
    afterAnswer,
    begin: [], // it is part of the question
    ask(asked: readonly Message[], { first }: { readonly first: boolean }): number[][] {
      const question = questionTokens(tokenizer, card.prompt.question, asked.map(({ content }) => content).join("\n"));
      return [[...(first ? [] : user), ...question]];
    },
  };
}

/** @param auto the corpus's way of linking */
function linkAsked(text: string, auto: Link): Link {
  return text === "auto" ? auto : parseLink(text);
}

function reserved({ contextTokens }: Limits): number {
  return Math.floor(contextTokens * ANSWER_SHARE);
}

/** The requested number of answer tokens, or as many as fit after the prompt. */
export function withinContext(asked: number, { pieces }: Plan, { contextTokens }: Limits): number {
  return Math.min(asked, contextTokens - endOf(pieces.at(-1)!));
}

function answerLimit({ max_completion_tokens, max_tokens }: ChatRequest): number | undefined {
  return max_completion_tokens ?? max_tokens ?? undefined;
}

function cite({ ref, title, page, date, fields, text, score }: Source, corpus: string): Citation {
  const told = { ...(page !== undefined && { page }), ...(date !== undefined && { date }), ...(fields !== undefined && { fields }) };
  return { corpus, ref, title, ...told, text, score };
}
