export { DEFAULT_LINK, isLink, linkText, NO_LINK, parseLink, wayOf, type Link } from "./link.js";
export { freshTokens, hasLoose, withoutKeeping } from "./linked-plan.js";
export { looksOf, questionOf } from "./looks.js";
export type { Looks, Way } from "./way.js";
