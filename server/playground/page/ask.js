/** @import { Formatted, RunStats, State } from "../events.js" */
/** @import { RequestProblem } from "./server.js" */
import { addressOf, questionOfAddress } from "./address.js";
import { startDocuments } from "./documents.js";
import { count, counted, element, find, ms } from "./dom.js";
import { forecast } from "./forecast.js";
import { drawFormatted } from "./formatted.js";
import { RunView } from "./run.js";
import { latest, readState } from "./server.js";

/** @typedef {{ question: string, answer: string, blocks: readonly Formatted[] }} Exchange `blocks`: the formatted answer */

/**
 * The tab for conversations over a corpus, or with a model only.
 *
 * @param {(problem: RequestProblem) => boolean} onProblem
 * @returns {(state: State) => void} shows the server's state
 */
export function startAsk(onProblem) {
  const form = find("#ask-form", HTMLFormElement);
  const model = find("#model-name", HTMLSelectElement);
  const corpus = find("#corpus", HTMLSelectElement);
  const totals = find("#totals", HTMLElement);
  const question = find("#question", HTMLTextAreaElement);
  const topK = find("#top-k", HTMLInputElement);
  const temperature = find("#temperature", HTMLInputElement);
  const length = find("#length", HTMLInputElement);
  const linkTokens = find("#link-tokens", HTMLSelectElement);
  const linkAuto = find("#link-auto", HTMLInputElement);
  const linkShare = find("#link-share", HTMLInputElement);
  const linkTold = find("#link-told", HTMLElement);
  const compare = find("#compare", HTMLInputElement);
  const followUp = find("#follow-up", HTMLElement);
  const earlier = find("#earlier", HTMLElement);
  const view = new RunView(find("#ask-run", HTMLElement), find(".cancel", HTMLButtonElement, form), onProblem);
  /** @type {State | undefined} */
  let state;
  /** @type {ReturnType<typeof latest<State>>} */
  const read = latest();
  /** Whether a question was submitted before the server's state was known. */
  let waits = false;
  /** @type {Exchange[]} */
  let talk = [];
  /** @type {{ stats: RunStats, documents: number } | undefined} of the latest answer */
  let measured;

  const tellTotals = () => {
    const chosen = state?.corpora.find((each) => each.name === corpus.value && each.model === model.value);
    totals.textContent =
      corpus.value === "" || !chosen
        ? "The model answers without documents."
        : chosen.chunks === 0
          ? "It is empty. Add files below, or run kvsplice precompute FILES --store DIR."
          : `${counted(chosen.files, "file")}, ${counted(chosen.chunks, "chunk")}, ${counted(chosen.tokens, "token")}`;
  };
  const tellLink = () => {
    const share = linkShare.valueAsNumber / 100;
    const told = `${linkShare.value} % of the documents' tokens`;
    linkTold.textContent = measured
      ? `${told}: about ${ms(forecast(share, measured.stats, measured.documents))} to the first token, judging by the last answer`
      : `${told}. The next answer shows how long that takes.`;
  };
  const tellTalk = () => {
    followUp.hidden = talk.length === 0;
    question.placeholder = talk.length === 0 ? "Ask about the documents" : "Ask a follow-up or a new question";
  };
  /** Shows the chosen model's properties, from its card. */
  const tellModel = () => {
    if (!state) return;
    const { name, contextLength, linkTokens: links, link, temperature: usual } = state.model;
    find("#model", HTMLElement).textContent = `${name}, context ${count(contextLength)} tokens`;
    linkTokens.replaceChildren(
      ...Array.from({ length: links.most + 1 }, (_, i) =>
        element("option", { value: String(i), selected: i === links.default }, String(i)),
      ),
    );
    temperature.placeholder = String(usual);
    length.max = String(contextLength);
    find("#link-auto-text", HTMLElement).textContent = `Use the corpus's way of linking (${link})`;
    linkShare.value = String(100 * (Number.parseFloat(link) || 0));
    linkAuto.checked = true;
    tellLink();
  };
  /** @param {{ model?: string, corpus?: string | undefined }} wanted */
  const listCorpora = (wanted) => {
    const names = (state?.corpora ?? []).flatMap((each) => (each.model === model.value && each.name !== "" ? [each.name] : []));
    corpus.replaceChildren(...[...names, ""].map((name) => element("option", { value: name }, name === "" ? "none" : name)));
    corpus.value = [wanted.corpus, names[0], ""].find((name) => name !== undefined && (name === "" || names.includes(name))) ?? "";
  };
  const showDocuments = startDocuments({
    corpus: () => corpus.value,
    limit: () => state?.upload_bytes ?? Infinity,
    onChange: async () => {
      const changed = await read(readState({ model: model.value, corpus: corpus.value }));
      if (!changed) return;
      state = changed;
      tellTotals();
      showDocuments();
    },
    onProblem,
  });
  /** @param {readonly Exchange[]} exchanges */
  const showEarlier = (exchanges) => {
    earlier.hidden = exchanges.length === 0;
    const items = exchanges.map(({ question, blocks }) =>
      element("li", {}, element("h3", {}, question), element("div", { className: "text" }, ...drawFormatted(blocks))),
    );
    find("ol", HTMLOListElement, earlier).replaceChildren(...items.reverse());
  };
  const begin = () => {
    talk = [];
    showEarlier(talk);
    tellTalk();
  };
  const choose = async () => {
    begin();
    measured = undefined;
    totals.textContent = "Opening …";
    try {
      const opened = await read(readState({ model: model.value, corpus: corpus.value }));
      if (!opened) return;
      state = opened;
      tellModel();
    } catch (error) {
      if (!onProblem(/** @type {RequestProblem} */ (error))) view.tell(/** @type {RequestProblem} */ (error).message);
    }
    tellTotals();
    showDocuments();
  };
  model.addEventListener("change", () => {
    listCorpora({});
    void choose();
  });
  corpus.addEventListener("change", choose);
  linkShare.addEventListener("input", () => {
    linkAuto.checked = false;
    tellLink();
  });
  find("#new-talk", HTMLButtonElement).addEventListener("click", () => {
    begin();
    view.hide();
    question.focus();
  });

  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = question.value.trim();
    waits = !state;
    if (asked === "" || waits) return;
    const named = { model: model.value, corpus: corpus.value, question: asked };
    const link = addressOf(named);
    history.replaceState(null, "", link);
    const before = talk;
    const messages = [
      ...before.flatMap(({ question, answer }) => [
        { role: "user", content: question },
        { role: "assistant", content: answer },
      ]),
      { role: "user", content: asked },
    ];
    const overCorpus = named.corpus !== "" && {
      corpus: { name: named.corpus, documents: topK.valueAsNumber },
      link_tokens: Number(linkTokens.value),
      ...(!linkAuto.checked && { link: String(linkShare.valueAsNumber / 100) }),
    };
    const chat = {
      model: named.model,
      messages,
      ...overCorpus,
      ...(temperature.value !== "" && { temperature: temperature.valueAsNumber }),
      ...(length.value !== "" && { max_tokens: length.valueAsNumber }),
    };
    showEarlier(before);
    question.value = "";
    const told = await view.run({ chat, compare: compare.checked }, { question: asked, link });
    if (talk !== before) return; // another question or conversation was started meanwhile
    if (!told) {
      // There was no answer: Enter asks the question again.
      if (question.value === "") question.value = asked;
      return;
    }
    talk = [...before, { question: asked, answer: told.answer, blocks: told.blocks }];
    measured = { stats: told.stats, documents: told.documents };
    tellTalk();
    tellLink();
  });

  return (known) => {
    state = known;
    const names = [...new Set(known.corpora.map((each) => each.model))];
    const wanted = questionOfAddress();
    model.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    if (names.includes(wanted.model)) model.value = wanted.model;
    listCorpora(wanted);
    question.value ||= wanted.question;
    tellModel();
    tellTotals();
    tellTalk();
    showDocuments();
    if (model.value !== known.model.name || corpus.value !== (known.corpora[0]?.name ?? "")) void choose();
    question.focus();
    if (waits) form.requestSubmit();
  };
}
