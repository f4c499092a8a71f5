export { DEFAULT_LINK, linkText, NO_LINK, parseLink, wayOf, type Link } from "./link.js";
export type { Looks, Way } from "./way.js";
