/** @import { AskEvent, MarkupReport, State } from "../events.js" */

/** Why a request failed, as a message for the page. `key`: whether the server needs an API key, or a different one. */
export class RequestProblem extends Error {
  /**
   * @param {string} message
   * @param {{ key?: boolean }} [options]
   */
  constructor(message, { key = false } = {}) {
    super(message);
    this.key = key;
  }
}

/**
 * Shows a request's problem; throws any other error.
 * @param {unknown} error
 * @param {HTMLElement} place
 * @param {(problem: RequestProblem) => boolean} onProblem called first; returns true if it shows the problem itself
 */
export function showProblem(error, place, onProblem) {
  if (!(error instanceof RequestProblem)) throw error;
  if (!onProblem(error)) place.textContent = error.message;
}

const GONE = "The server does not answer. If kvsplice serve is not running, start it and try again.";
export const LOST = "The connection to the server was lost before the end. Try again.";

/** Key in the tab's session storage, which survives a reload. */
const KEY = "kvsplice-key";

/** @param {string} key */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/**
 * @param {{ model: string, corpus: string } | undefined} [asked] the model to describe; the server's first by default
 * @returns {Promise<State>}
 */
export async function readState(asked) {
  const query = asked ? `?${new URLSearchParams(asked.corpus === "" ? { model: asked.model } : asked)}` : "";
  return (await call(`/playground/api/state${query}`)).json();
}

/** @typedef {{ id: string, chunks: number, tokens: number, problems?: string[] }} CorpusDocument */

/**
 * @param {string} corpus
 * @returns {Promise<CorpusDocument[]>}
 */
export async function readDocuments(corpus) {
  return (await (await call(documentsOf(corpus))).json()).data;
}

/**
 * @param {string} corpus
 * @param {string} document
 */
export async function removeDocument(corpus, document) {
  await call(`${documentsOf(corpus)}/${document.split("/").map(encodeURIComponent).join("/")}`, { method: "DELETE" });
}

/**
 * Adds a file to a corpus, and yields events as they arrive.
 *
 * @param {string} corpus
 * @param {File} file
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<UploadEvent>}
 */
export async function* addFile(corpus, file, signal) {
  const body = new FormData();
  body.append("files", file);
  yield* /** @type {AsyncGenerator<UploadEvent>} */ (eventsOf(await call(`${documentsOf(corpus)}?stream=true`, { body, signal }), signal));
}

/**
 * @typedef {{ type: "progress", tokens: number, encoded: number } | { type: "done", documents: CorpusDocument[], problems: { document: string, reason: string }[] }
 *   | { type?: undefined, error: { message: string } }} UploadEvent
 */

/** @param {string} corpus */
function documentsOf(corpus) {
  return `/v1/corpora/${encodeURIComponent(corpus)}/documents`;
}

/**
 * @param {string} file
 * @returns {Promise<string>}
 */
export async function readMarkup(file) {
  const { text } = await (await call(`/playground/api/markup?file=${encodeURIComponent(file)}`)).json();
  return text;
}

/**
 * @param {{ schema: string, prompt: string, file?: string, data?: Record<string, unknown> }} markup
 * @param {AbortSignal} signal
 * @returns {Promise<MarkupReport>}
 */
export async function requestMarkupReport(markup, signal) {
  return (await call("/playground/api/markup", { body: markup, signal })).json();
}

/**
 * Yields an answer's events as they arrive.
 *
 * @param {object} body
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<AskEvent>}
 */
export async function* ask(body, signal) {
  yield* /** @type {AsyncGenerator<AskEvent>} */ (eventsOf(await call("/playground/api/ask", { body, signal }), signal));
}

/**
 * @param {Response} response
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<unknown>}
 */
async function* eventsOf(response, signal) {
  if (!response.body) throw new RequestProblem(LOST);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value = "" } = await reader.read().catch((error) => Promise.reject(signal.aborted ? error : new RequestProblem(LOST)));
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    for (const each of events) yield JSON.parse(each.slice("data: ".length));
  }
}

/**
 * @param {string} path
 * @param {{ body?: object, method?: string, signal?: AbortSignal }} [options] the body is sent as JSON, unless it is a form
 */
async function call(path, { body, method = body ? "POST" : "GET", signal } = {}) {
  const key = sessionStorage.getItem(KEY);
  const isForm = body instanceof FormData;
  /** @type {RequestInit} */
  const init = {
    method,
    headers: { ...(body && !isForm && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) },
    ...(body && { body: isForm ? body : JSON.stringify(body) }),
    ...(signal && { signal }),
  };
  const response = await fetch(path, init).catch((error) => Promise.reject(signal?.aborted ? error : new RequestProblem(GONE)));
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  if (response.status === 401)
    throw new RequestProblem(key ? "The server does not know this API key." : "This server needs an API key.", { key: true });
  throw new RequestProblem(error?.message ?? `The server answered ${response.status} ${response.statusText}. See its log for details.`);
}

/**
 * For answers that can overtake each other: only the latest request's counts.
 *
 * @template Answer
 * @returns {(answer: Promise<Answer>) => Promise<Answer | undefined>} undefined if there was a later request meanwhile
 */
export function latest() {
  let requests = 0;
  return async (answer) => {
    const request = ++requests;
    try {
      const answered = await answer;
      if (request === requests) return answered;
    } catch (error) {
      if (request === requests) throw error;
    }
  };
}
