import { KvspliceError } from "../../plan/index.js";
import { mostLookedAtLast } from "./order.js";
import { recomputeHead, recomputeLookedAt } from "./recompute.js";
import type { Way } from "./way.js";

/** How a prompt's loose blocks are linked. */
export type Link =
  | { readonly kind: "none" }
  /** Recomputes the tokens that the question attends to most, `share` of all; with `last`, their blocks are first moved next to it. */
  | { readonly kind: "question"; readonly share: number; readonly last?: boolean }
  /** Recomputes the first tokens of each block. */
  | { readonly kind: "head"; readonly tokens: number };

/** Nothing is recomputed: documents do not see each other. */
export const NO_LINK: Link = { kind: "none" };

/** For models without measurements: docs/linking.md reports its effect. */
export const DEFAULT_LINK: Link = { kind: "question", share: 0.15 };

/**
 * The link that a text names: `none`, a share such as `0.15` (or `15%`), `0.15+last`, `head=8`.
 * @throws KvspliceError `bad_argument`
 */
export function parseLink(text: string): Link {
  if (text === "none" || text === "0") return NO_LINK;
  const head = /^head=(\d+)$/.exec(text);
  if (head) return { kind: "head", tokens: Number(head[1]) };
  const [, number = "", percent, last] = /^(\d*\.?\d+)(%)?(\+last)?$/.exec(text) ?? [];
  const share = Number(number) / (percent ? 100 : 1);
  if (number === "" || !(share >= 0 && share <= 1)) {
    throw new KvspliceError(
      "bad_argument",
      `"${text}" is not a way of linking: give none, auto, a share from 0 to 1 such as 0.15, 0.15+last, or head=8.`,
    );
  }
  return { kind: "question", share, ...(last && { last: true }) };
}

/** Whether a text names a link. */
export function isLink(text: string): boolean {
  try {
    return parseLink(text) !== undefined;
  } catch {
    return false;
  }
}

/** A link as text that `parseLink` reads back. */
export function linkText(link: Link): string {
  switch (link.kind) {
    case "none":
      return "none";
    case "question":
      return `${link.share}${link.last ? "+last" : ""}`;
    case "head":
      return `head=${link.tokens}`;
  }
}

export function wayOf(link: Link): Way {
  switch (link.kind) {
    case "none":
      return { looks: false, link: (plan) => plan };
    case "head":
      return recomputeHead(link.tokens);
    case "question": {
      const again = recomputeLookedAt(link.share);
      return link.last ? { looks: true, link: (plan, looks) => again.link(mostLookedAtLast.link(plan, looks), looks) } : again;
    }
  }
}
