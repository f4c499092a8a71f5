/** @import { RequestProblem } from "./server.js" */
/** @import { SchemaFile, State } from "../events.js" */
/** @import { Diagnostic } from "../../../pml/index.js" */
import { counted, element, find, words } from "./dom.js";
import { Editor } from "./editor.js";
import { drawLayout } from "./layout.js";
import { PROMPT, SCHEMA } from "./pml-example.js";
import { drawRendering } from "./rendering.js";
import { RunView } from "./run.js";
import { readMarkup, requestMarkupReport, showProblem } from "./server.js";

/** Wait after the last keystroke: the server lays out the whole schema. */
const PAUSE_MS = 200;

/**
 * The tab for editing markup.
 *
 * @param {(problem: RequestProblem) => boolean} onProblem
 * @returns {(state: State) => void} shows the server's state
 */
export function startPml(onProblem) {
  const form = find("#pml-form", HTMLFormElement);
  const schemaFile = find("#schema-file", HTMLSelectElement);
  const promptFile = find("#prompt-file", HTMLSelectElement);
  const compare = find("#pml-compare", HTMLInputElement);
  const layout = find("#layout", HTMLElement);
  const rendering = find("#rendering", HTMLElement);
  const total = find("#problem-count", HTMLElement);
  const list = find("#problems", HTMLOListElement);
  const view = new RunView(find("#pml-run", HTMLElement), find(".cancel", HTMLButtonElement, form), onProblem);
  const events = { onInput: () => checkSoon(), onCaret: () => showCaret() };
  const schema = new Editor(find("#schema-text", HTMLTextAreaElement), events);
  const prompt = new Editor(find("#prompt-text", HTMLTextAreaElement), events);
  /** @type {readonly SchemaFile[]} */
  let files = [];
  /** @type {{ diagnostic: Diagnostic, item: HTMLElement }[]} */
  let problems = [];

  const data = find("#data-text", HTMLTextAreaElement);
  data.addEventListener("input", () => checkSoon());
  const markup = () => {
    const { data: values } = valuesIn(data.value);
    return {
      schema: schema.text,
      prompt: prompt.text,
      ...(schemaFile.value && { file: schemaFile.value }),
      ...(values && { data: values }),
    };
  };
  /** @param {Diagnostic} diagnostic */
  const editorOf = ({ place }) => (place?.file === "schema" ? schema : place?.file === "prompt" ? prompt : undefined);
  const showCaret = () =>
    problems.forEach(({ diagnostic, item }) => item.classList.toggle("at-caret", editorOf(diagnostic)?.isAt(diagnostic) ?? false));

  let timer = 0;
  let checking = new AbortController();
  const checkSoon = () => {
    clearTimeout(timer);
    timer = window.setTimeout(check, PAUSE_MS);
  };
  const check = async () => {
    clearTimeout(timer);
    checking.abort();
    const { signal } = (checking = new AbortController());
    try {
      const report = await requestMarkupReport(markup(), signal);
      const { problem } = valuesIn(data.value);
      showProblems([...(problem ? [problem] : []), ...report.diagnostics.toSorted(byPlace)]);
      const drawn = drawLayout(report);
      // While the markup has errors, the last layout stays, marked as stale, so that the page does not jump at every key.
      layout.classList.toggle("stale", !drawn);
      rendering.classList.toggle("stale", !report.prompt);
      if (report.prompt) {
        rendering.hidden = false;
        find("#rendering-text", HTMLPreElement).replaceChildren(...drawRendering(report.prompt.parts));
      }
      if (!drawn) return;
      layout.hidden = false;
      find("#layout-summary", HTMLElement).textContent = drawn.summary;
      find("#layout-table", HTMLElement).replaceChildren(drawn.table);
    } catch (error) {
      if (signal.aborted) return;
      showProblem(error, total, onProblem);
    }
  };

  /** @param {readonly Diagnostic[]} diagnostics */
  const showProblems = (diagnostics) => {
    const errors = diagnostics.filter(({ severity }) => severity === "error").length;
    const warnings = diagnostics.length - errors;
    total.textContent = diagnostics.length === 0 ? "No problems." : `${counted(errors, "error")}, ${counted(warnings, "warning")}.`;
    total.className = errors > 0 ? "has-errors" : "";
    problems = diagnostics.map((diagnostic) => ({ diagnostic, item: problemItem(diagnostic, editorOf(diagnostic)) }));
    list.replaceChildren(...problems.map(({ item }) => item));
    for (const editor of [schema, prompt]) editor.mark(diagnostics.filter((each) => editorOf(each) === editor));
    showCaret();
  };

  /** Files that are being read: what is in the editors until then does not belong together. */
  let opening = Promise.resolve();
  const openSchema = () => open(readSchema);
  const openPrompt = () => open(readPrompt);
  const readSchema = async () => {
    const chosen = files.find(({ file }) => file === schemaFile.value);
    promptFile.replaceChildren(...(chosen?.prompts ?? ["example"]).map((file) => element("option", { value: chosen ? file : "" }, file)));
    schema.text = chosen ? await readMarkup(chosen.file) : SCHEMA;
    await readPrompt();
  };
  const readPrompt = async () => {
    const example = schemaFile.value === "" ? PROMPT : `<prompt schema=""></prompt>\n`;
    prompt.text = promptFile.value === "" ? example : await readMarkup(promptFile.value);
    await check();
  };
  /** @param {() => Promise<void>} read */
  const open = (read) => {
    total.textContent = "";
    opening = opening.then(read).catch((error) => showProblem(error, total, onProblem));
  };
  schemaFile.addEventListener("change", openSchema);
  promptFile.addEventListener("change", openPrompt);

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void opening.then(() => view.run({ markup: markup(), compare: compare.checked }));
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit();
  });

  return (state) => {
    files = state.schemas;
    schemaFile.replaceChildren(
      element("option", { value: "" }, "example"),
      ...files.map(({ file }) => element("option", { value: file }, file)),
    );
    find("#more-schemas", HTMLElement).textContent =
      state.more_schemas === 0 ? "" : `${counted(state.more_schemas, "more file")} in the folder cannot be opened here.`;
    openSchema();
  };
}

/**
 * Parses the values as they are typed: a JSON object, or the problem with it.
 *
 * @param {string} text
 * @returns {{ data?: Record<string, unknown>, problem?: Diagnostic }}
 */
function valuesIn(text) {
  if (text.trim() === "") return {};
  try {
    const data = JSON.parse(text);
    if (typeof data === "object" && data !== null && !Array.isArray(data)) return { data };
    return {
      problem: {
        code: "bad-value",
        severity: "error",
        message: "the values are not a JSON object; write `{...}`, with modules and variables by name",
      },
    };
  } catch (error) {
    return {
      problem: {
        code: "bad-value",
        severity: "error",
        message: `the values are not JSON: ${error instanceof Error ? error.message : error}`,
      },
    };
  }
}

/**
 * Sorts the schema's diagnostics before the prompt's, each in text order.
 *
 * @param {Diagnostic} a
 * @param {Diagnostic} b
 */
function byPlace({ place: a }, { place: b }) {
  if (!a || !b) return Number(Boolean(a)) - Number(Boolean(b));
  return Number(a.file === "prompt") - Number(b.file === "prompt") || a.line - b.line || a.column - b.column;
}

/**
 * @param {Diagnostic} diagnostic
 * @param {Editor | undefined} editor the editor that contains its place
 */
function problemItem({ code, severity, message, place, ...rest }, editor) {
  const where = place ? `${place.file}:${place.line}:${place.column}` : "";
  const told = [
    element("span", { className: `severity ${severity}` }, severity),
    element("span", { className: "where" }, where),
    element("span", { className: "message" }, ...words(message)),
    element("code", { className: "quiet" }, code),
  ];
  if (!editor) return element("li", {}, ...told);
  const button = element("button", { type: "button" }, ...told);
  button.addEventListener("click", () => editor.goTo({ code, severity, message, ...rest, ...(place && { place }) }));
  return element("li", {}, button);
}
