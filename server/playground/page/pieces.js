/** @import { AgainView, PieceKind, PieceView, SourceView } from "../events.js" */
import { count, counted, element, find } from "./dom.js";

/** @type {Readonly<Record<PieceKind, string>>} */
const KINDS = {
  cached: "cached",
  encoded: "cached from now on",
  link: "link",
  new: "new",
};

/**
 * Shows a prompt as coloured pieces whose widths are proportional to their numbers of tokens.
 *
 * @param {HTMLElement} root the run's `.result`
 * @param {readonly PieceView[]} pieces
 * @param {readonly SourceView[]} sources
 * @returns {{ again(views: readonly AgainView[]): void }} `again` shows what linking recomputed
 */
export function showPieces(root, pieces, sources) {
  const strip = find(".strip", HTMLElement, root);
  const facts = find(".piece", HTMLElement, root);
  const text = find(".piece-text", HTMLElement, root);
  const list = find(".sources ol", HTMLOListElement, root);
  const buttons = pieces.map((piece, i) => {
    const label = `${KINDS[piece.kind]}: ${piece.label}, ${counted(piece.tokens, "token")}`;
    const button = element(
      "button",
      { type: "button", className: piece.kind, "aria-label": label, tabIndex: i === 0 ? 0 : -1 },
      element("span", {}, count(piece.tokens)),
    );
    button.style.flexGrow = String(piece.tokens);
    return button;
  });
  const items = sources.map((source, i) => {
    const piece = pieces.find((each) => each.source === i);
    const title = element("button", { type: "button", className: "title" }, source.title);
    const item = element("li", {}, title, element("span", { className: "quiet" }, `${source.ref}, ${counted(source.tokens, "token")}`));
    if (piece) {
      item.addEventListener("mouseenter", () => show(piece));
      title.addEventListener("focus", () => show(piece));
      title.addEventListener("click", () => show(piece));
    }
    return item;
  });

  /** @type {ReadonlyMap<number, AgainView>} */
  let recomputed = new Map();

  /** @param {PieceView} piece */
  const show = (piece) => {
    const again = recomputed.get(pieces.indexOf(piece));
    buttons.forEach((button, i) => button.classList.toggle("shown", pieces[i] === piece));
    items.forEach((item, i) => item.classList.toggle("shown", piece.source === i));
    facts.replaceChildren(...describe(piece, sources, again));
    const parts = again?.parts.map(({ text, again }) => (again ? element("mark", {}, text) : text)) ?? [
      piece.text || "These are trained tokens without text.",
    ];
    text.replaceChildren(
      ...parts,
      piece.more > 0 && !again ? element("span", { className: "quiet" }, ` … and ${counted(piece.more, "more character")}`) : "",
    );
  };
  buttons.forEach((button, i) => {
    const piece = /** @type {PieceView} */ (pieces[i]);
    button.addEventListener("mouseenter", () => show(piece));
    button.addEventListener("focus", () => show(piece));
    button.addEventListener("keydown", (event) => {
      const next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: buttons.length - 1 }[event.key];
      const target = next === undefined ? undefined : buttons[next];
      if (!target) return;
      event.preventDefault();
      buttons.forEach((each) => (each.tabIndex = each === target ? 0 : -1));
      target.focus();
    });
  });

  strip.replaceChildren(...buttons);
  find(".sources", HTMLElement, root).hidden = sources.length === 0;
  list.replaceChildren(...items);
  facts.replaceChildren(element("span", { className: "quiet" }, "Point at a piece to see what it is, or use the arrow keys."));
  text.textContent = pieces.at(-1)?.text ?? "";
  const tellTotals = () => {
    const again = [...recomputed.values()].reduce((all, { tokens }) => all + tokens, 0);
    find(".legend", HTMLUListElement, root).replaceChildren(...legend(pieces, again));
    find(".sum", HTMLElement, root).replaceChildren(...sum(pieces, again));
  };
  tellTotals();
  return {
    again(views) {
      recomputed = new Map(views.map((view) => [view.piece, view]));
      for (const { piece, tokens } of views) {
        const [button, view] = [buttons[piece], pieces[piece]];
        if (!button || !view) continue;
        button.classList.add("again");
        button.style.setProperty("--again", String(tokens / view.tokens));
        button.setAttribute("aria-label", `${button.getAttribute("aria-label")}, ${count(tokens)} recomputed`);
      }
      tellTotals();
    },
  };
}

/**
 * @param {PieceView} piece
 * @param {readonly SourceView[]} sources
 * @param {AgainView | undefined} again
 */
function describe({ kind, label, tokens, places, source }, sources, again) {
  const ref = source === undefined ? undefined : sources[source]?.ref;
  const positions = places.map(([start, end]) => (end - start === 1 ? `${count(start)}` : `${count(start)}–${count(end - 1)}`)).join(", ");
  return [
    element("span", { className: `swatch ${kind}` }),
    element("strong", {}, label),
    element(
      "span",
      { className: "quiet" },
      `${KINDS[kind]}, ${counted(tokens, "token")} at ${positions}${ref === undefined ? "" : `, ${ref}`}${again ? `; ${count(again.tokens)} recomputed` : ""}`,
    ),
  ];
}

/**
 * @param {readonly PieceView[]} pieces
 * @param {number} again
 */
function legend(pieces, again) {
  const order = /** @type {const} */ (["cached", "encoded", "link", "new"]);
  /** @param {string} kind @param {string} name @param {number} tokens */
  const item = (kind, name, tokens) =>
    element("li", {}, element("span", { className: `swatch ${kind}` }), element("span", {}, name, " "), element("b", {}, count(tokens)));
  const kinds = order.flatMap((kind) => {
    const of = pieces.filter((piece) => piece.kind === kind);
    if (of.length === 0 && kind === "encoded") return [];
    return [item(kind, KINDS[kind], of.reduce((all, piece) => all + piece.tokens, 0) - (kind === "cached" ? again : 0))];
  });
  return [...kinds, ...(again > 0 ? [item("again", "recomputed", again)] : [])];
}

/**
 * @param {readonly PieceView[]} pieces
 * @param {number} again
 */
function sum(pieces, again) {
  const all = pieces.reduce((tokens, piece) => tokens + piece.tokens, 0);
  const cached = pieces.reduce((tokens, piece) => tokens + (piece.kind === "cached" ? piece.tokens : 0), 0) - again;
  return [element("b", {}, counted(all, "token")), `, ${count(cached)} of them from the cache (${((100 * cached) / all).toFixed(0)} %)`];
}
