import type { Language } from "../engine/index.js";
import { Pace } from "../plan/index.js";
import type { TokenBytes } from "./llguidance.js";

/** The bytes that each token of a model writes, concatenated. */
export async function tokenBytesOf({ tokenizer, endTokens }: Pick<Language, "tokenizer" | "endTokens">): Promise<TokenBytes> {
  const pace = new Pace();
  const each: Uint8Array[] = [];
  for (let id = 0; id < tokenizer.size; id++) {
    each.push(endTokens.has(id) ? new Uint8Array(0) : tokenizer.bytesOf(id));
    await pace.breathe();
  }
  const ends = new Uint32Array(each.length);
  let end = 0;
  each.forEach(({ length }, id) => (ends[id] = end += length));
  const bytes = new Uint8Array(end);
  each.forEach((own, id) => bytes.set(own, ends[id]! - own.length));
  return { bytes, ends, stops: Uint32Array.from(endTokens) };
}
