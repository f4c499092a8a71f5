/** @import { PieceKind, PieceView, SourceView } from "../events.js" */
import { count, counted, element, find } from "./dom.js";

/** @type {Readonly<Record<PieceKind, string>>} */
const KINDS = {
  cached: "cached",
  encoded: "cached from now on",
  link: "link",
  new: "new",
};

/**
 * Shows a prompt as coloured pieces, each as wide as its tokens are many.
 *
 * @param {HTMLElement} root the run's `.result`
 * @param {readonly PieceView[]} pieces
 * @param {readonly SourceView[]} sources
 */
export function showPieces(root, pieces, sources) {
  const strip = find(".strip", HTMLElement, root);
  const facts = find(".piece", HTMLElement, root);
  const text = find(".piece-text", HTMLElement, root);
  const list = find(".sources ol", HTMLOListElement, root);
  const buttons = pieces.map((piece, i) => {
    const label = `${KINDS[piece.kind]}: ${piece.label}, ${counted(piece.tokens, "token")}`;
    const button = element("button", { type: "button", className: piece.kind, "aria-label": label, tabIndex: i === 0 ? 0 : -1 }, element("span", {}, count(piece.tokens)));
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

  /** @param {PieceView} piece */
  const show = (piece) => {
    buttons.forEach((button, i) => button.classList.toggle("shown", pieces[i] === piece));
    items.forEach((item, i) => item.classList.toggle("shown", piece.source === i));
    facts.replaceChildren(...describe(piece, sources));
    text.textContent = piece.text || "These tokens are trained, and have no text.";
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
  facts.replaceChildren(element("span", { className: "quiet" }, "Point at a piece to see what it is, or go through them with the arrow keys."));
  text.textContent = pieces.at(-1)?.text ?? "";
  find(".legend", HTMLUListElement, root).replaceChildren(...legend(pieces));
  find(".sum", HTMLElement, root).replaceChildren(...sum(pieces));
}

/**
 * @param {PieceView} piece
 * @param {readonly SourceView[]} sources
 */
function describe({ kind, label, tokens, places, source }, sources) {
  const ref = source === undefined ? undefined : sources[source]?.ref;
  const positions = places.map(([start, end]) => (end - start === 1 ? `${count(start)}` : `${count(start)}–${count(end - 1)}`)).join(", ");
  return [
    element("span", { className: `swatch ${kind}` }),
    element("strong", {}, label),
    element("span", { className: "quiet" }, `${KINDS[kind]}, ${counted(tokens, "token")} at ${positions}${ref === undefined ? "" : `, ${ref}`}`),
  ];
}

/** @param {readonly PieceView[]} pieces */
function legend(pieces) {
  const order = /** @type {const} */ (["cached", "encoded", "link", "new"]);
  return order.flatMap((kind) => {
    const of = pieces.filter((piece) => piece.kind === kind);
    if (of.length === 0 && kind === "encoded") return [];
    const tokens = of.reduce((all, piece) => all + piece.tokens, 0);
    return [element("li", {}, element("span", { className: `swatch ${kind}` }), element("span", {}, KINDS[kind], " "), element("b", {}, count(tokens)))];
  });
}

/** @param {readonly PieceView[]} pieces */
function sum(pieces) {
  const all = pieces.reduce((tokens, piece) => tokens + piece.tokens, 0);
  const cached = pieces.reduce((tokens, piece) => tokens + (piece.kind === "cached" ? piece.tokens : 0), 0);
  return [element("b", {}, counted(all, "token")), `, ${count(cached)} of them from the cache (${((100 * cached) / all).toFixed(0)} %)`];
}
