export { type Adapter, type LowRank, WHERE, type Where } from "./adapter.js";
export { readAdapter } from "./read.js";
export { type AdapterChoice, identityOf, readAdapters, type UsedAdapter } from "./several.js";
