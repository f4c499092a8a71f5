import { distance } from "fastest-levenshtein";

/** Names longer than this are not typing errors, and comparing two costs the product of their lengths. */
const MAX_COMPARED_LENGTH = 64;

/** `; did you mean ...?` for the candidate nearest to what was written, or an empty text if none is near. */
export function didYouMean(written: string, candidates: Iterable<string>): string {
  if (written.length > MAX_COMPARED_LENGTH) return "";
  let best: string | undefined;
  let bestDistance = farthest(written) + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - written.length) >= bestDistance) continue;
    const edits = distance(written, candidate);
    if (edits < bestDistance) [best, bestDistance] = [candidate, edits];
  }
  return best === undefined ? "" : `; did you mean \`${best}\`?`;
}

/** Edits allowed for a typing error; two swapped letters count as two. */
function farthest(written: string): number {
  return written.length <= 3 ? 1 : Math.max(2, Math.floor(written.length / 3));
}
