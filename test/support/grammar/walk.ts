import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { createMask, type Grammar, type Language } from "../../../engine/index.js";

/** Tokens after which a walk looks for the end, and after which it is abandoned, like an answer cut off at its limit. */
const AT_LARGE = 24;
const MOST = 600;

/** Tokens that bring JSON to an end, best first. */
const CLOSING = ['"}', '"]', "}", "]", '"', '":', ":", ": ", " ", ",", "0", "1", "e", "a", "-", "null", "true"];

/** Generates answers from a grammar without a model: each token is drawn from those allowed. */
export class Walker {
  private readonly random;
  private readonly mask: Uint32Array;
  private readonly closing: readonly number[];

  constructor(
    private readonly language: Pick<Language, "tokenizer" | "endTokens">,
    seed: number,
  ) {
    this.random = xoroshiro128plus(seed);
    this.mask = createMask(language.tokenizer.size);
    this.closing = CLOSING.flatMap((text) => language.tokenizer.encode(text)).filter((id, i, all) => all.indexOf(id) === i);
  }

  /** An answer's text; undefined if it does not end. */
  walk(grammar: Grammar): string | undefined {
    const { tokenizer, endTokens } = this.language;
    using constraint = grammar.begin();
    const ids: number[] = [];
    while (ids.length < MOST) {
      if (constraint.finished) return tokenizer.decode(ids, { continues: true });
      constraint.allowed(this.mask);
      const allowed = this.allowedIds();
      if (allowed.length === 0)
        throw new Error(`Nothing may follow ${JSON.stringify(tokenizer.decode(ids, { continues: true }))}, but it has not ended.`);
      const ends = allowed.some((id) => endTokens.has(id));
      if (ends && (ids.length > AT_LARGE || this.draw(4) === 0 || allowed.every((id) => endTokens.has(id))))
        return tokenizer.decode(ids, { continues: true });
      const going = allowed.filter((id) => !endTokens.has(id));
      const closing = ids.length > AT_LARGE || this.draw(3) === 0 ? this.closing.filter((id) => this.isAllowed(id)) : [];
      const id =
        closing.length > 0
          ? closing[ids.length > AT_LARGE && this.draw(4) > 0 ? 0 : this.draw(closing.length)]!
          : going[this.draw(going.length)]!;
      constraint.accept(id);
      ids.push(id);
    }
    return undefined;
  }

  /** Whether the grammar accepts a complete text. */
  takes(grammar: Grammar, text: string): boolean {
    using constraint = grammar.begin();
    for (const id of this.language.tokenizer.encode(text, { continues: true })) {
      constraint.allowed(this.mask);
      if (!this.isAllowed(id)) return false;
      constraint.accept(id);
    }
    if (constraint.finished) return true;
    constraint.allowed(this.mask);
    return [...this.language.endTokens].some((id) => this.isAllowed(id));
  }

  private draw(below: number): number {
    return uniformInt(this.random, 0, below - 1);
  }

  private isAllowed(id: number): boolean {
    return (this.mask[id >> 5]! & (1 << (id & 31))) !== 0;
  }

  private allowedIds(): number[] {
    const ids: number[] = [];
    for (let id = 0; id < this.language.tokenizer.size; id++) if (this.isAllowed(id)) ids.push(id);
    return ids;
  }
}

/** The text of a value in a JSON grammar. */
export function written(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(written).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, each]) => `${JSON.stringify(key)}: ${written(each)}`)
    .join(", ")}}`;
}
