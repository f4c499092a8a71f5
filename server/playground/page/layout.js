/** @import { MarkupReport, PieceView } from "../events.js" */
/** @import { Description } from "../../../pml/index.js" */
import { count, counted, element } from "./dom.js";

/** Maximum rows; a schema may have ten thousand modules. */
const MAX_ROWS = 200;

/**
 * Draws a schema along its positions, one row per module, so that members of a union visibly share theirs. The first row is
 * the prompt, with gaps at the positions that are reserved for what it leaves out.
 *
 * @param {MarkupReport} report
 * @returns {{ summary: string, table: HTMLElement } | undefined}
 */
export function drawLayout({ layout, prompt }) {
  if (!layout) return undefined;
  const length = Math.max(1, layout.length, prompt?.end ?? 0);
  const rows = [...walk(layout.tree, 0)];
  const more = rows.length - MAX_ROWS;
  const table = element(
    "table",
    { className: "layout" },
    element(
      "thead",
      {},
      element("tr", {}, header("Module"), header("Tokens"), header("Positions"), element("th", { scope: "col" }, axis(length))),
    ),
    element(
      "tbody",
      {},
      ...(prompt ? [promptRow(prompt, length)] : []),
      ...rows.slice(0, MAX_ROWS).map(({ node, depth }) => moduleRow(node, depth, length)),
      ...(more > 0 ? [element("tr", {}, element("td", { colSpan: 4, className: "quiet" }, `… ${count(more)} more`))] : []),
    ),
  );
  return { summary: summary(layout, prompt), table };
}

/**
 * @param {NonNullable<MarkupReport["layout"]>} layout
 * @param {MarkupReport["prompt"]} prompt
 */
function summary({ length, blocks, tree }, prompt) {
  const schema = `${tree.name || "The schema"} takes ${counted(length, "position")} and is stored in ${counted(blocks, "block")}.`;
  if (!prompt) return schema;
  const cached = prompt.pieces.reduce((tokens, piece) => tokens + (piece.kind === "cached" ? piece.tokens : 0), 0);
  const all = prompt.pieces.reduce((tokens, piece) => tokens + piece.tokens, 0);
  return `${schema} Of this prompt's ${counted(all, "token")}, ${count(cached)} (${((100 * cached) / all).toFixed(0)} %) can come from the cache.`;
}

/**
 * @param {Description} node
 * @param {number} depth
 * @returns {Generator<{ node: Description, depth: number }>}
 */
function* walk(node, depth) {
  yield { node, depth };
  for (const child of node.children) yield* walk(child, depth + 1);
}

/** @param {string} text */
function header(text) {
  return element("th", { scope: "col" }, text);
}

/** @param {number} length */
function axis(length) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000];
  const step = steps.find((each) => length / each <= 5) ?? length;
  const ticks = Array.from({ length: Math.floor(length / step) + 1 }, (_, i) => {
    const tick = element("span", {}, count(i * step));
    tick.style.left = `${(100 * i * step) / length}%`;
    return tick;
  });
  return element("div", { className: "axis" }, element("span", { className: "unseen" }, "Picture"), ...ticks);
}

/**
 * @param {NonNullable<MarkupReport["prompt"]>} prompt
 * @param {number} length
 */
function promptRow({ pieces, end }, length) {
  const tokens = pieces.reduce((sum, piece) => sum + piece.tokens, 0);
  const bars = pieces.flatMap((piece) => piece.places.map(([start, stop]) => bar(start, stop, length, piece.kind, titleOf(piece))));
  return row("This prompt", "prompt", 0, count(tokens), `0–${count(end - 1)}`, [
    bar(0, end, length, "gap", "gap: reserved for what the prompt leaves out"),
    ...bars,
  ]);
}

/** @param {PieceView} piece */
function titleOf({ kind, label, tokens }) {
  return `${label}: ${counted(tokens, "token")}, ${kind === "new" ? "computed now" : "cached"}`;
}

/**
 * @param {Description} node
 * @param {number} depth
 * @param {number} length
 */
function moduleRow(node, depth, length) {
  const { kind, name, start, end, tokens, cached, included, sees, repeat } = node;
  const label = kind === "module" || kind === "schema" ? name : `${kind} ${name}`.trim();
  const notes = [
    ...(kind === "module" && !cached ? ["computed each time"] : []),
    ...(repeat === undefined ? [] : [`up to ${repeat} times`]),
    ...(sees === undefined ? [] : [`sees ${counted(sees, "token")} before it`]),
    ...(included === false ? ["left out"] : []),
  ];
  const positions =
    start === undefined || end === undefined || end <= start ? "" : end - start === 1 ? count(start) : `${count(start)}–${count(end - 1)}`;
  const classes = [kind, ...(included === false ? ["left-out"] : [])].join(" ");
  const shown = notes.length > 0 ? `${label} (${notes.join(", ")})` : label;
  return row(shown, classes, depth, kind === "union" || kind === "document" ? "" : count(tokens), positions, bars(node, length));
}

/**
 * A module's range of positions, and in it its own text, without parameters and inner modules.
 *
 * @param {Description} node
 * @param {number} length
 */
function bars({ kind, start, end, cached, children }, length) {
  if (start === undefined || end === undefined) return [];
  if (kind === "union") return [bar(start, end, length, "reach", "one of the modules below")];
  if (kind === "parameter")
    return [bar(start, end, length, "parameter", `reserved for an argument of up to ${counted(end - start, "token")}`)];
  const own = [];
  let from = start;
  for (const child of children) {
    if (child.start === undefined || child.end === undefined) continue;
    if (child.start > from) own.push([from, child.start]);
    from = Math.max(from, child.end);
  }
  if (end > from) own.push([from, end]);
  return [
    bar(start, end, length, "reach", ""),
    ...own.map(([a = 0, b = 0]) => bar(a, b, length, cached ? "cached" : "new", `own text: ${counted(b - a, "token")}`)),
  ];
}

/**
 * @param {number} start
 * @param {number} end
 * @param {number} length
 * @param {string} name
 * @param {string} title
 */
function bar(start, end, length, name, title) {
  const drawn = element("span", { className: `bar ${name}`, title });
  Object.assign(drawn.style, { left: `${(100 * start) / length}%`, width: `${(100 * (end - start)) / length}%` });
  return drawn;
}

/**
 * @param {string} label
 * @param {string} classes
 * @param {number} depth
 * @param {string} tokens
 * @param {string} positions
 * @param {readonly HTMLElement[]} drawn
 */
function row(label, classes, depth, tokens, positions, drawn) {
  const name = element("th", { scope: "row" }, label);
  name.style.setProperty("--depth", String(depth));
  return element(
    "tr",
    { className: classes },
    name,
    element("td", {}, tokens),
    element("td", {}, positions),
    element("td", { className: "track" }, element("div", { "aria-hidden": "true" }, ...drawn)),
  );
}
