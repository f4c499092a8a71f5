/** @import { Diagnostic } from "../../../pml/index.js" */
import { element, find } from "./dom.js";

/** @typedef {{ start: number, end: number, name: string }} Mark a range of the text, and its class */

/** Maximum characters for which markup is coloured. In longer texts, only problems are marked. */
const MAX_COLOURED = 50_000;

/** A textarea on top of the same text in colours. Browsers, keyboards and screen readers see a normal textarea. */
export class Editor {
  /** @type {readonly Mark[]} */
  #problems = [];

  /**
   * @param {HTMLTextAreaElement} area within its `.editor`
   * @param {{ onInput: () => void, onCaret: () => void }} events
   */
  constructor(area, { onInput, onCaret }) {
    this.area = area;
    this.picture = find("pre", HTMLPreElement, /** @type {HTMLElement} */ (area.parentElement));
    area.spellcheck = false;
    area.autocapitalize = "off";
    area.addEventListener("input", () => {
      this.#problems = []; // their positions refer to the old text
      this.#draw();
      onInput();
    });
    for (const type of ["keyup", "pointerup", "focus"]) area.addEventListener(type, onCaret);
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.#problems = [];
    this.#draw();
  }

  /** @param {readonly Diagnostic[]} diagnostics of this text */
  mark(diagnostics) {
    this.#problems = diagnostics.map(({ place, severity }) => ({ ...this.#range(place), name: severity }));
    this.area.setAttribute("aria-invalid", String(diagnostics.some(({ severity }) => severity === "error")));
    this.#draw();
  }

  /**
   * Moves the caret to the problem.
   *
   * @param {Diagnostic} diagnostic
   */
  goTo({ place }) {
    const { start, end } = this.#range(place);
    this.area.focus();
    this.area.setSelectionRange(start, end);
  }

  /**
   * @param {Diagnostic} diagnostic
   * @returns {boolean} whether the caret is within it
   */
  isAt({ place }) {
    const { start, end } = this.#range(place);
    return document.activeElement === this.area && start <= this.area.selectionStart && this.area.selectionStart <= end;
  }

  /** @param {Diagnostic["place"]} place */
  #range(place) {
    if (!place) return { start: 0, end: 0 };
    const lines = this.text.split("\n");
    /** @param {number} line @param {number} column */
    const offset = (line, column) => lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
    const start = offset(place.line, place.column);
    return { start, end: Math.max(start, offset(place.endLine, place.endColumn)) };
  }

  #draw() {
    const { text } = this;
    const marks = [...(text.length <= MAX_COLOURED ? markupMarks(text) : []), ...this.#problems.map((mark) => widened(mark, text))];
    let from = 0;
    this.picture.replaceChildren(
      ...text.split("\n").map((line) => {
        const to = from + line.length;
        const within = marks.filter(({ start, end }) => start < to && end > from);
        const drawn = element("span", { className: "line" }, ...cut(text, from, to, within), "\n");
        from = to + 1;
        return drawn;
      }),
    );
  }
}

/**
 * Widens a mark that is empty or only covers a line end, which would be invisible.
 *
 * @param {Mark} mark
 * @param {string} text
 * @returns {Mark}
 */
function widened(mark, text) {
  if (mark.end > mark.start && text[mark.start] !== "\n") return mark;
  const next = text[mark.start];
  return next === undefined || next === "\n"
    ? { ...mark, start: Math.max(0, mark.start - 1), end: mark.start }
    : { ...mark, end: mark.start + 1 };
}

/**
 * Cuts a line into pieces, each entirely inside or outside of every mark.
 *
 * @param {string} text
 * @param {number} from
 * @param {number} to
 * @param {readonly Mark[]} marks
 */
function cut(text, from, to, marks) {
  const borders = new Set([from, to, ...marks.flatMap(({ start, end }) => [Math.max(from, start), Math.min(to, end)])]);
  const sorted = [...borders].sort((a, b) => a - b);
  return sorted.slice(0, -1).map((start, i) => {
    const end = sorted[i + 1];
    const names = marks.filter((mark) => mark.start <= start && mark.end > start).map(({ name }) => name);
    return names.length === 0 ? text.slice(start, end) : element("span", { className: names.join(" ") }, text.slice(start, end));
  });
}

const TAG = /<!--[\s\S]*?(?:-->|$)|<\/?([^\s<>/"'=]*)((?:[^<>"']|"[^"<]*"|'[^'<]*')*)>?/g;
const ATTRIBUTE = /([^\s="'/]+)\s*=\s*("[^"]*"?|'[^']*'?)/g;

/**
 * @param {string} text
 * @returns {Mark[]}
 */
function markupMarks(text) {
  /** @type {Mark[]} */
  const marks = [];
  for (const { 0: tag, 1: name = "", 2: rest = "", index } of text.matchAll(TAG)) {
    if (tag.startsWith("<!--")) {
      marks.push({ start: index, end: index + tag.length, name: "comment" });
      continue;
    }
    const nameEnd = index + tag.indexOf(name, 1) + name.length;
    marks.push({ start: index, end: nameEnd, name: "tag" });
    for (const { 0: whole, 1: attribute = "", 2: value = "", index: at } of rest.matchAll(ATTRIBUTE)) {
      const start = nameEnd + at;
      marks.push({ start, end: start + attribute.length, name: "attribute" });
      marks.push({ start: start + whole.length - value.length, end: start + whole.length, name: "value" });
    }
    marks.push({ start: nameEnd + rest.length - (rest.endsWith("/") ? 1 : 0), end: index + tag.length, name: "tag" });
  }
  return marks;
}
