/**
 * What an answer may say: grammars over a model's vocabulary.
 *
 *     await using grammars = new Grammars(model);
 *     const answer = model.generate(plan, { grammar: await grammars.ofSchema({ type: "object" }) });
 */
export { Grammars } from "./grammars.js";
export type { GrammarSource } from "./llguidance.js";
export { type Schema, schemaOf } from "./schema.js";
