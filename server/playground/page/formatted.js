/** @import { Formatted, FormattedTag } from "../events.js" */
import { element } from "./dom.js";

/** @type {ReadonlySet<FormattedTag>} */
const TAGS = new Set([
  "p",
  "h3",
  "h4",
  "h5",
  "h6",
  "blockquote",
  "ul",
  "ol",
  "li",
  "pre",
  "hr",
  "table",
  "tr",
  "th",
  "td",
  "em",
  "strong",
  "code",
  "a",
  "br",
]);

/**
 * Formatted text as DOM nodes: only elements with these names, and links that open in a new tab.
 *
 * @param {readonly Formatted[]} blocks
 * @returns {(Node | string)[]}
 */
export function drawFormatted(blocks) {
  return blocks.map((block) => {
    if (typeof block === "string") return block;
    const { tag, children, href, start } = block;
    if (!TAGS.has(tag)) throw new Error(`Unknown formatted element ${tag}.`);
    const leads = href === undefined ? {} : { href, target: "_blank", rel: "noopener noreferrer" };
    return element(tag, { ...leads, ...(start !== undefined && { start }) }, ...drawFormatted(children));
  });
}
