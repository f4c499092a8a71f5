import { createHash } from "node:crypto";
import { Pace } from "../plan/index.js";

/** Hashing a longer text takes milliseconds, and a conversation's keys hash each text several times: the keys hash its digest. */
const LONG = 65_536;

/** Characters that are hashed before others get a turn. */
const STEP = 65_536;

/** How a text is identified in a conversation's keys: by itself, or by a digest. */
export type NameOf = (text: string) => string | { readonly sha256: string };

/** Names a text at once. */
export const nameOf: NameOf = (text) => {
  if (text.length <= LONG) return text;
  const digesting = digest(text);
  for (;;) {
    const { done, value } = digesting.next();
    if (done) return { sha256: value };
  }
};

/**
 * Names these texts, and any other, without blocking the thread for the long ones among them.
 * @throws KvspliceError `cancelled`
 */
export async function namesOf(texts: readonly string[], signal?: AbortSignal): Promise<NameOf> {
  const names = new Map<string, { readonly sha256: string }>();
  const pace = new Pace(signal);
  for (const text of texts) {
    if (text.length <= LONG || names.has(text)) continue;
    const digesting = digest(text);
    for (let next = digesting.next(); ; next = digesting.next()) {
      if (next.done) {
        names.set(text, { sha256: next.value });
        break;
      }
      await pace.breathe();
    }
  }
  return (text) => (text.length <= LONG ? text : (names.get(text) ?? nameOf(text)));
}

/** In UTF-16, which tells any two texts apart wherever it is cut. */
function* digest(text: string): Generator<undefined, string> {
  const hash = createHash("sha256");
  for (let at = 0; at < text.length; at += STEP) {
    hash.update(text.slice(at, at + STEP), "utf16le");
    yield;
  }
  return hash.digest("hex");
}
