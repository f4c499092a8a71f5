/** @import { CorpusDocument, RequestProblem } from "./server.js" */
import { count, counted, element, find } from "./dom.js";
import { addFile, latest, RequestProblem as Problem, readDocuments, removeDocument, showProblem } from "./server.js";

/** Files listed before "Show all". */
const FIRST = 20;

/**
 * The panel that lists, adds and removes a corpus's files.
 *
 * @param {{ corpus: () => string, limit: () => number, onChange: () => Promise<void>, onProblem: (problem: RequestProblem) => boolean }} page
 *   `limit`: maximum bytes of one file
 * @returns {() => void} call it when another corpus is chosen or its files change
 */
export function startDocuments({ corpus, limit, onChange, onProblem }) {
  const panel = find("#documents", HTMLDetailsElement);
  const form = find("#upload-form", HTMLFormElement);
  const input = find("#upload-files", HTMLInputElement);
  const stop = find("#upload-cancel", HTMLButtonElement);
  const bar = find("#upload-progress", HTMLProgressElement);
  const status = find("#upload-status", HTMLElement);
  const problems = find("#upload-problems", HTMLUListElement);
  const list = find("#document-list", HTMLUListElement);
  const more = find("#document-more", HTMLElement);
  const all = find("#document-all", HTMLButtonElement);
  /** @type {AbortController | undefined} */
  let adding;
  /** @type {ReturnType<typeof latest<CorpusDocument[]>>} */
  const listed = latest();

  /** @param {string} file @param {string} reason */
  const complain = (file, reason) => problems.append(element("li", {}, element("b", {}, file), `: ${reason}`));

  /** @param {() => Promise<void>} work */
  const orTell = async (work) => {
    try {
      await work();
    } catch (error) {
      showProblem(error, status, onProblem);
    }
  };

  /** @param {CorpusDocument} document */
  const item = ({ id, chunks, tokens, problems: faults = [] }) => {
    const remove = element("button", { type: "button", "aria-label": `Remove ${id}` }, "Remove");
    remove.addEventListener("click", () => {
      if (!confirm(`Remove ${id} from the corpus?`)) return;
      void orTell(async () => {
        await removeDocument(corpus(), id);
        status.textContent = `Removed ${id}.`;
        await onChange();
      });
    });
    return element(
      "li",
      {},
      element("span", {}, id),
      element("span", { className: "quiet" }, [counted(chunks, "chunk"), counted(tokens, "token"), ...faults].join(", ")),
      remove,
    );
  };

  /** @param {number} [shown] */
  const show = async (shown = FIRST) => {
    const documents = await listed(corpus() === "" ? Promise.resolve([]) : readDocuments(corpus()));
    if (!documents) return;
    list.replaceChildren(...documents.slice(0, shown).map(item));
    const left = documents.length - shown;
    more.textContent = left > 0 ? `${count(shown)} of ${counted(documents.length, "file")} shown.` : "";
    all.hidden = left <= 0;
  };

  /** @param {File} file @param {AbortSignal} signal @param {string} place */
  const add = async (file, signal, place) => {
    if (file.size > limit()) {
      return complain(
        file.name,
        `it has ${count(file.size / 2 ** 20)} MiB, but this server accepts ${count(limit() / 2 ** 20)} MiB at a time. Start it with a larger --max-body, or use kvsplice precompute.`,
      );
    }
    for await (const event of addFile(corpus(), file, signal)) {
      if (event.type === "progress") status.textContent = `${file.name}${place}: ${counted(event.encoded, "block")} encoded …`;
      else if (event.type === "done") for (const { document, reason } of event.problems) complain(document, reason);
      else complain(file.name, event.error.message);
    }
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const files = [...(input.files ?? [])];
    if (adding || files.length === 0) return;
    adding = new AbortController();
    const { signal } = adding;
    stop.hidden = bar.hidden = false;
    Object.assign(bar, { max: files.length, value: 0 });
    problems.replaceChildren();
    for (const [i, file] of files.entries()) {
      if (signal.aborted) break;
      const place = files.length === 1 ? "" : ` (${i + 1} of ${files.length})`;
      status.textContent = `Uploading ${file.name}${place} …`;
      try {
        await add(file, signal, place);
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof Problem)) throw error;
        if (onProblem(error)) break;
        complain(file.name, error.message);
      }
      bar.value = i + 1;
    }
    const [added, failed] = [bar.value, problems.childElementCount];
    status.textContent = signal.aborted
      ? `Stopped after ${counted(added, "file")}. What was encoded is kept: add the file again to continue.`
      : failed === 0
        ? `Added ${counted(added, "file")}. Questions can find them now.`
        : `${counted(added, "file")} read, with ${counted(failed, "problem")}:`;
    stop.hidden = bar.hidden = true;
    adding = undefined;
    input.value = "";
    await orTell(onChange);
  });
  stop.addEventListener("click", () => adding?.abort());
  all.addEventListener("click", () => void orTell(() => show(Infinity)));
  panel.addEventListener("toggle", () => {
    if (panel.open) void orTell(show);
  });

  return () => {
    panel.hidden = corpus() === "";
    if (panel.open) void orTell(show);
  };
}
