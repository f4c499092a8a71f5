import { KvspliceError, type Plan } from "../engine/index.js";
import { splitDocument, type Source } from "../rag/index.js";
import type { ChatRequest } from "./chat-request.js";
import { ApiError } from "./error.js";
import type { Service } from "./service.js";

/** A document that the model reads for an answer; its place in this list is its number in the text of nobody. */
export type Citation = { readonly title: string; readonly text: string; readonly score?: number };

/** What is asked of the engine for one request. */
export type Prompt = {
  readonly plan: Plan;
  /** The best first. */
  readonly citations: readonly Citation[];
  readonly maxNewTokens: number;
  readonly retrieve_ms: number;
};

/** Answer tokens of a chat that sets no limit: some two minutes of the slowest CPU, and the context is left alone. */
const CHAT_TOKENS = 512;

export async function promptOf(request: ChatRequest, service: Service, signal: AbortSignal): Promise<Prompt> {
  const { model, limits } = service;
  const start = performance.now();
  const { plan, citations } = await layOut(request, service, signal);
  const retrieve_ms = performance.now() - start;
  const last = plan.pieces.at(-1)!;
  const promptTokens = last.at + ("tokens" in last ? last.tokens.length : 0);
  const asked = request.max_completion_tokens ?? request.max_tokens;
  const usual = citations.length > 0 ? model.card.maxAnswerTokens : CHAT_TOKENS;
  const room = limits.contextTokens - promptTokens;
  if (room < (asked ?? 1)) {
    throw new ApiError(
      400,
      `This server's context holds ${limits.contextTokens} tokens; the prompt takes ${promptTokens} and the answer may take ${asked ?? 1}. Shorten the messages, ask over fewer documents, or lower max_tokens.`,
      { param: "messages", code: "context_length_exceeded" },
    );
  }
  return { plan, citations, maxNewTokens: asked ?? Math.min(usual, room), retrieve_ms };
}

async function layOut(request: ChatRequest, service: Service, signal: AbortSignal): Promise<Pick<Prompt, "plan" | "citations">> {
  const { corpus, corpusName, model } = service;
  const question = request.messages.at(-1)!.content;
  const options = request.link_tokens == null ? {} : { linkTokens: request.link_tokens };
  if (request.corpus != null) {
    if (request.corpus !== true && request.corpus !== corpusName) {
      throw new ApiError(404, `There is no corpus of this name; this server has '${corpusName}'.`, { param: "corpus", code: "corpus_not_found" });
    }
    const sources = await corpus.retrieve(question, { signal, ...(request.top_k != null && { topK: request.top_k }) });
    return { plan: corpus.plan(question, sources, options), citations: sources.map(cite) };
  }
  if (request.documents != null) {
    const documents = request.documents.map((given) => {
      if (typeof given === "string") throw new ApiError(404, `There is no document '${given}'.`, { param: "documents", code: "document_not_found" });
      return given;
    });
    // plan() lays the best source last; the chunks of one text stay in their order.
    const chunks = documents.flatMap(({ title, text }) => splitDocument({ path: "", title, paragraphs: [{ text }] }, { tokenizer: model.tokenizer, card: model.card }).reverse());
    return { plan: corpus.plan(question, chunks, options), citations: documents };
  }
  if (request.schema != null) throw new KvspliceError("bad_argument", "Schemas are not served yet.");
  return { plan: chatPlan(request, service), citations: [] };
}

function chatPlan({ messages }: ChatRequest, { model: { tokenizer, chat } }: Service): Plan {
  const tokens = messages.flatMap(({ role, content }, index) => {
    const { open, close } = chat.frame(role === "developer" ? "system" : role, { first: index === 0 });
    return [...tokenizer.encode(open, { control: true }), ...tokenizer.encode(content), ...tokenizer.encode(close, { control: true })];
  });
  return { pieces: [{ tokens: [...tokens, ...tokenizer.encode(chat.generationPrompt, { control: true })], at: 0 }] };
}

function cite({ title, text, score }: Source): Citation {
  return { title, text, score };
}

