/** @import { RenderedPart } from "../../../pml/index.js" */
import { element } from "./dom.js";

/**
 * A prompt as the model reads it, with one span per part.
 *
 * @param {readonly RenderedPart[]} parts
 */
export function drawRendering(parts) {
  return parts.map((part) => {
    if (part.kind === "gap") return element("span", { className: "gap" }, `[${part.end - part.start} free]`);
    const name = part.from.kind === "prompt" ? "the prompt" : part.from.name;
    const seen = part.sees === undefined ? "" : `, after ${part.sees} tokens that it saw`;
    const title = `${name}, positions ${part.start} to ${part.end - 1}${part.role ? `, ${part.role}` : ""}${seen}`;
    return element(
      "span",
      { className: `${part.cached ? "cached" : "new"}${part.control ? " control" : ""}`, title },
      part.from.kind === "link" ? "[link]" : part.text,
    );
  });
}
