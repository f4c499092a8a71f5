/** @import { AskEvent, RunName } from "../events.js" */
import { find, words } from "./dom.js";
import { showPieces } from "./pieces.js";
import { Race } from "./race.js";
import { ask, LOST, RequestProblem } from "./server.js";

/** An answer as it comes: its text, its prompt, and its times. */
export class RunView {
  /** @type {AbortController | undefined} */
  #running;
  #race;

  /**
   * @param {HTMLElement} root an empty place on the page
   * @param {HTMLButtonElement} cancel
   * @param {(problem: RequestProblem) => boolean} onProblem told first; true where it tells the problem itself
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
    this.answer = find(".answer .text", HTMLElement, root);
    this.#race = new Race(find(".race", HTMLElement, root));
    cancel.addEventListener("click", () => this.cancel());
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape") this.cancel();
    });
  }

  /** Ends the run that goes on, if one does. */
  cancel() {
    this.#running?.abort();
  }

  /**
   * Asks, and shows what comes. A run that goes on is cancelled.
   *
   * @param {{ compare: boolean } & Record<string, unknown>} body
   */
  async run(body) {
    this.cancel();
    const running = new AbortController();
    this.#running = running;
    this.cancelButton.setAttribute("aria-disabled", "false");
    this.#tell("");
    this.status.textContent = "On its way …";
    this.result.hidden = true;
    /** @type {RunName[]} */
    const names = body.compare ? ["spliced", "full"] : ["spliced"];
    const done = new Set();
    try {
      for await (const event of ask(body, running.signal)) {
        if (this.#running !== running) return;
        this.#show(event, names);
        if (event.type === "done") done.add(event.run);
      }
      if (done.size < names.length && this.error.hidden) this.#tell(LOST);
      this.status.textContent = done.size < names.length ? "" : "Done.";
    } catch (error) {
      if (this.#running !== running) return;
      this.status.textContent = "";
      if (running.signal.aborted) this.status.textContent = "Cancelled.";
      else if (!(error instanceof RequestProblem)) throw error;
      else if (!this.onProblem(error)) this.#tell(error.message);
    } finally {
      if (this.#running === running) {
        this.#running = undefined;
        this.cancelButton.setAttribute("aria-disabled", "true");
        this.answer.removeAttribute("aria-busy");
        this.answer.classList.remove("writing");
        if (!this.result.hidden) this.#race.end();
      }
    }
  }

  /**
   * @param {AskEvent} event
   * @param {readonly RunName[]} names
   */
  #show(event, names) {
    switch (event.type) {
      case "plan":
        this.answer.textContent = "";
        this.answer.setAttribute("aria-busy", "true");
        this.answer.classList.add("writing");
        this.result.hidden = false;
        showPieces(this.result, event.pieces, event.sources);
        this.#race.begin(names, event.retrieve_ms);
        if (event.pieces.some(({ kind }) => kind === "encoded")) this.status.textContent = "Encoding the blocks that the store lacks …";
        break;
      case "encoded":
        this.#race.encoded(event.tokens, event.ms);
        break;
      case "start":
        this.status.textContent = event.run === "full" ? "Now the same prompt by full prefill …" : "Answering from the cache …";
        this.#race.start(event.run);
        break;
      case "token":
        if (event.run === "spliced") this.answer.append(event.text);
        this.#race.token(event.run, event.text, event.at_ms);
        break;
      case "done":
        if (event.run === "spliced") {
          this.answer.removeAttribute("aria-busy");
          this.answer.classList.remove("writing");
        }
        this.#race.done(event.run, event.stats);
        break;
      case "error":
        this.#tell(event.message);
        break;
    }
  }

  /** @param {string} problem */
  #tell(problem) {
    this.error.hidden = problem === "";
    this.error.replaceChildren(...words(problem));
  }
}
