/** @import { AskEvent, Formatted, RunName, RunStats } from "../events.js" */
import { counted, find, words } from "./dom.js";
import { drawFormatted } from "./formatted.js";
import { showPieces } from "./pieces.js";
import { Race } from "./race.js";
import { ask, LOST, RequestProblem } from "./server.js";

/**
 * A complete answer. `documents`: number of tokens of the documents found.
 *
 * @typedef {{ answer: string, blocks: readonly Formatted[], stats: RunStats, documents: number }} Told
 */

/** Shows an answer as it arrives: its text, its prompt, and its times. */
export class RunView {
  /** @type {AbortController | undefined} */
  #running;
  #race;
  /** @type {Omit<Told, "stats"> & { stats?: RunStats }} the spliced answer so far */
  #said = { answer: "", documents: 0, blocks: [] };
  /** @type {ReturnType<typeof showPieces> | undefined} */
  #pieces;
  #link = "";

  /**
   * @param {HTMLElement} root an empty element of the page
   * @param {HTMLButtonElement} cancel
   * @param {(problem: RequestProblem) => boolean} onProblem called first; returns true if it shows the problem itself
   */
  constructor(root, cancel, onProblem) {
    const template = find("#run-template", HTMLTemplateElement);
    root.className = "run";
    root.replaceChildren(template.content.cloneNode(true));
    this.cancelButton = cancel;
    this.onProblem = onProblem;
    this.status = find(".status", HTMLElement, root);
    this.error = find(".error", HTMLElement, root);
    this.result = find(".result", HTMLElement, root);
    this.asked = find(".asked", HTMLElement, root);
    this.answer = find(".answer .text", HTMLElement, root);
    this.remarks = find(".remarks", HTMLElement, root);
    this.copyAnswer = find(".copy-answer", HTMLButtonElement, root);
    this.copyLink = find(".copy-link", HTMLButtonElement, root);
    this.copied = find(".copied", HTMLElement, root);
    this.#race = new Race(find(".race", HTMLElement, root));
    cancel.addEventListener("click", () => this.cancel());
    this.copyAnswer.addEventListener("click", () => this.#copy(this.#said.answer, "The answer"));
    this.copyLink.addEventListener("click", () => this.#copy(this.#link, "The link"));
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape") this.cancel();
    });
  }

  /** Cancels the current run, if there is one. */
  cancel() {
    this.#running?.abort();
  }

  /** Cancels, and hides everything. */
  hide() {
    this.cancel();
    this.#running = undefined;
    this.cancelButton.setAttribute("aria-disabled", "true");
    this.result.hidden = true;
    this.status.textContent = "";
    this.tell("");
  }

  /**
   * Asks and shows the answer as it arrives. Cancels the current run.
   *
   * @param {{ compare: boolean } & Record<string, unknown>} body
   * @param {{ question: string, link: string }} [asked] the question to show above the answer, and its link
   * @returns {Promise<Told | undefined>} undefined if there was no complete answer
   */
  async run(body, asked) {
    this.cancel();
    this.#said = { answer: "", documents: 0, blocks: [] };
    this.#link = asked?.link ?? "";
    this.asked.textContent = asked?.question ?? "Answer";
    this.copyLink.hidden = !asked;
    this.copyAnswer.hidden = true;
    this.copied.textContent = this.remarks.textContent = "";
    const running = new AbortController();
    this.#running = running;
    this.cancelButton.setAttribute("aria-disabled", "false");
    this.tell("");
    this.status.textContent = "Waiting for the server …";
    this.result.hidden = true;
    /** @type {RunName[]} */
    const names = body.compare ? ["spliced", "full"] : ["spliced"];
    const done = new Set();
    try {
      for await (const event of ask(body, running.signal)) {
        if (this.#running !== running) return undefined;
        this.#show(event, names);
        if (event.type === "done") done.add(event.run);
      }
      if (done.size < names.length && this.error.hidden) this.tell(LOST);
      this.status.textContent = done.size < names.length ? "" : "Done.";
    } catch (error) {
      if (this.#running !== running) return undefined;
      this.status.textContent = "";
      if (running.signal.aborted) this.status.textContent = "Cancelled.";
      else if (!(error instanceof RequestProblem)) throw error;
      else if (!this.onProblem(error)) this.tell(error.message);
    } finally {
      if (this.#running === running) {
        this.#running = undefined;
        this.cancelButton.setAttribute("aria-disabled", "true");
        this.answer.removeAttribute("aria-busy");
        this.answer.classList.remove("writing");
        if (!this.result.hidden) this.#race.end();
      }
    }
    const { stats, ...said } = this.#said;
    return stats && { ...said, stats };
  }

  /**
   * @param {AskEvent} event
   * @param {readonly RunName[]} names
   */
  #show(event, names) {
    switch (event.type) {
      case "plan":
        this.answer.replaceChildren();
        this.answer.setAttribute("aria-busy", "true");
        this.answer.classList.add("writing");
        this.result.hidden = false;
        this.#pieces = showPieces(this.result, event.pieces, event.sources);
        this.#said.documents = event.sources.reduce((sum, { tokens }) => sum + tokens, 0);
        if (!event.found) this.#remark("Nothing in the corpus answers this, so the model answers without documents.");
        if (event.dropped > 0)
          this.#remark(`The first ${counted(event.dropped, "exchange")} no longer fit into the context and were dropped.`);
        this.#race.begin(names, event.retrieve_ms);
        if (event.pieces.some(({ kind }) => kind === "encoded")) this.status.textContent = "Encoding missing blocks …";
        break;
      case "encoded":
        this.#race.encoded(event.tokens, event.ms);
        break;
      case "start":
        this.status.textContent = event.run === "full" ? "Now the same prompt with full prefill …" : "Answering from the cache …";
        this.#race.start(event.run);
        break;
      case "linked":
        this.#pieces?.again(event.again);
        break;
      case "formatted":
        this.#said.blocks = event.blocks;
        this.answer.replaceChildren(...drawFormatted(event.blocks));
        break;
      case "token":
        if (event.run === "spliced") {
          this.#said.answer += event.text;
          this.answer.append(event.text);
        }
        this.#race.token(event.run, event.text, event.at_ms);
        break;
      case "done":
        if (event.run === "spliced") {
          this.answer.removeAttribute("aria-busy");
          this.answer.classList.remove("writing");
          this.copyAnswer.hidden = false;
          this.#said.stats = event.stats;
          if (event.stats.cut) this.#remark("The answer was cut off at the maximum length. Increase it for a longer answer.");
        }
        this.#race.done(event.run, event.stats);
        break;
      case "error":
        this.tell(event.message);
        break;
    }
  }

  /** @param {string} remark a sentence about the answer */
  #remark(remark) {
    this.remarks.append(`${this.remarks.textContent ? " " : ""}${remark}`);
  }

  /** @param {string} text @param {string} what */
  async #copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      this.copied.textContent = `${what} was copied.`;
    } catch {
      this.copied.textContent = "The browser does not allow pages to copy here. Select the text and press Ctrl+C.";
    }
  }

  /** @param {string} problem */
  tell(problem) {
    this.error.hidden = problem === "";
    this.error.replaceChildren(...words(problem));
  }
}
