export { DEFAULT_LINK, isLink, type Link, linkText, NO_LINK, parseLink, wayOf } from "./link.js";
export { freshTokens, hasLoose, keptAsFound, keptAsLinked } from "./linked-plan.js";
export { looksOf, questionOf } from "./looks.js";
export type { Looks, Way } from "./way.js";
