import type { Vocabulary } from "./vocabulary.js";

/** A token spelled out in a text; `start` and `end` include the white space that it absorbs. */
export type SpelledToken = { readonly id: number; readonly start: number; readonly end: number };

type Node = { id?: number; readonly next: Map<number, Node> };

const WHITE = /[ \t\n\v\f\r]/;

/** Finds spelled-out tokens before the text is split into words: the longest of those that begin at the same place. */
export class SpelledTokens {
  private readonly root: Node = { next: new Map() };

  constructor(
    private readonly vocabulary: Vocabulary,
    isSpelled: (id: number) => boolean,
  ) {
    vocabulary.tokens.forEach((token, id) => {
      if (token === "" || !isSpelled(id)) return;
      let node = this.root;
      for (let i = 0; i < token.length; i++) {
        const unit = token.charCodeAt(i);
        let next = node.next.get(unit);
        if (next === undefined) node.next.set(unit, (next = { next: new Map() }));
        node = next;
      }
      node.id = id;
    });
  }

  /**
   * The first one that begins in `[from, to)`; it may end after that.
   * @param floor white space before this place is not absorbed
   */
  find(text: string, from: number, to: number, floor: number): SpelledToken | undefined {
    if (this.root.next.size === 0) return undefined;
    for (let at = from; at < to; at++) {
      const first = this.root.next.get(text.charCodeAt(at));
      if (first === undefined) continue;
      const found = longest(text, at, first);
      if (found !== undefined) return this.withSpace(text, found, floor);
    }
    return undefined;
  }

  private withSpace(text: string, token: SpelledToken, floor: number): SpelledToken {
    let { id, start, end } = token;
    while (this.vocabulary.takesBefore.has(id) && start > floor && WHITE.test(text[start - 1]!)) start--;
    while (this.vocabulary.takesAfter.has(id) && end < text.length && WHITE.test(text[end]!)) end++;
    return { id, start, end };
  }
}

function longest(text: string, start: number, first: Node): SpelledToken | undefined {
  let found: SpelledToken | undefined;
  let node: Node | undefined = first;
  for (let at = start + 1; node !== undefined; at++) {
    if (node.id !== undefined) found = { id: node.id, start, end: at };
    node = at < text.length ? node.next.get(text.charCodeAt(at)) : undefined;
  }
  return found;
}
