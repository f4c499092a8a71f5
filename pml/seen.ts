import type { Context } from "./tree.js";

/**
 * Tokens before a place that are visible from there while a module is encoded, as a linked list with the last run first.
 * Adding runs never changes earlier ones, so every module can keep its own.
 */
export type Seen =
  | { readonly before: Seen | undefined; readonly tokens: readonly number[]; readonly at: number; readonly length: number }
  | undefined;

/** What each context sees before a place; `none` sees nothing. */
export type Sight = Readonly<Record<Exclude<Context, "none">, Seen>>;

export const NOTHING: Sight = { before: undefined, all: undefined };

export function seenMore({ before, all }: Sight, tokens: readonly number[], at: number): Sight {
  const more = (seen: Seen): Seen => ({ before: seen, tokens, at, length: (seen?.length ?? 0) + tokens.length });
  return { before: more(before), all: more(all) };
}

export function tokensSeen(seen: Seen): readonly number[] {
  const runs = runsSince(seen, undefined);
  return runs.flatMap(({ tokens }) => tokens);
}

/** Runs added since, in order. */
export function runsSince(seen: Seen, since: Seen): readonly NonNullable<Seen>[] {
  const runs: NonNullable<Seen>[] = [];
  for (let run = seen; run && run !== since; run = run.before) runs.push(run);
  return runs.reverse();
}
