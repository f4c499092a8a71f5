/** @import { State } from "../events.js" */
/** @import { RequestProblem } from "./server.js" */
import { counted, element, find } from "./dom.js";
import { RunView } from "./run.js";

/**
 * The tab that asks a corpus.
 *
 * @param {(problem: RequestProblem) => boolean} onProblem
 * @returns {(state: State) => void} shows what the server has
 */
export function startAsk(onProblem) {
  const form = find("#ask-form", HTMLFormElement);
  const corpus = find("#corpus", HTMLSelectElement);
  const totals = find("#totals", HTMLElement);
  const question = find("#question", HTMLTextAreaElement);
  const topK = find("#top-k", HTMLInputElement);
  const linkTokens = find("#link-tokens", HTMLSelectElement);
  const compare = find("#compare", HTMLInputElement);
  const view = new RunView(find("#ask-run", HTMLElement), find(".cancel", HTMLButtonElement, form), onProblem);
  /** @type {State | undefined} */
  let state;

  const tellTotals = () => {
    const chosen = state?.corpora.find(({ name }) => name === corpus.value);
    totals.textContent = !chosen
      ? "This server has no corpus."
      : chosen.chunks === 0
        ? "It is empty: fill it with kvsplice precompute FILES --store DIR, then reload."
        : `${counted(chosen.files, "file")}, ${counted(chosen.chunks, "chunk")}, ${counted(chosen.tokens, "token")}`;
  };
  corpus.addEventListener("change", tellTotals);

  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void view.run({
      corpus: corpus.value,
      question: question.value,
      top_k: topK.valueAsNumber,
      link_tokens: Number(linkTokens.value),
      compare: compare.checked,
    });
  });

  return (known) => {
    state = known;
    corpus.replaceChildren(...known.corpora.map(({ name }) => element("option", { value: name }, name)));
    const { most, default: usual } = known.model.linkTokens;
    linkTokens.replaceChildren(...Array.from({ length: most + 1 }, (_, i) => element("option", { value: String(i), selected: i === usual }, String(i))));
    tellTotals();
    question.focus();
  };
}
