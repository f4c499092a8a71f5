/** @import { AskEvent, MarkupReport, State } from "../events.js" */

/** Why a request brought nothing, in words for the page. `key`: the server wants an API key, or another one. */
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

const GONE = "The server does not answer. Is kvsplice serve still running? Start it, then try again.";
export const LOST = "The connection to the server was lost before the answer's end. Ask again.";

/** Of this tab, so that a reload keeps it. */
const KEY = "kvsplice-key";

/** @param {string} key */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** @returns {Promise<State>} */
export async function readState() {
  return (await call("state")).json();
}

/**
 * @param {string} file
 * @returns {Promise<string>}
 */
export async function readMarkup(file) {
  const { text } = await (await call(`markup?file=${encodeURIComponent(file)}`)).json();
  return text;
}

/**
 * @param {{ schema: string, prompt: string, file?: string }} markup
 * @param {AbortSignal} signal
 * @returns {Promise<MarkupReport>}
 */
export async function checkMarkup(markup, signal) {
  return (await call("markup", { body: markup, signal })).json();
}

/**
 * An answer's events as they come.
 *
 * @param {object} body
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<AskEvent>}
 */
export async function* ask(body, signal) {
  const response = await call("ask", { body, signal });
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
 * @param {{ body?: object, signal?: AbortSignal }} [options]
 */
async function call(path, { body, signal } = {}) {
  const key = sessionStorage.getItem(KEY);
  /** @type {RequestInit} */
  const init = {
    method: body ? "POST" : "GET",
    headers: { ...(body && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) },
    ...(body && { body: JSON.stringify(body) }),
    ...(signal && { signal }),
  };
  const response = await fetch(`/playground/api/${path}`, init).catch((error) => Promise.reject(signal?.aborted ? error : new RequestProblem(GONE)));
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  if (response.status === 401) throw new RequestProblem(key ? "The server does not know this API key." : "This server wants an API key.", { key: true });
  throw new RequestProblem(error?.message ?? `The server answered ${response.status} ${response.statusText}; its log tells more.`);
}
