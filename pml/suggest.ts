import { distance } from "fastest-levenshtein";

/** Names beyond this length are nobody's typing error, and comparing them costs their product. */
const MAX_COMPARED_LENGTH = 64;

/** `; did you mean ...?` for the candidate that is nearest to what was written, or nothing when none is near. */
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

/** Edits of a slip of the keyboard; two letters that changed places are two. */
function farthest(written: string): number {
  return written.length <= 3 ? 1 : Math.max(2, Math.floor(written.length / 3));
}
