import {
  type BlockPiece,
  type BlockSource,
  type BlockStore,
  isBlockPiece,
  type Model,
  type Piece,
  type Plan,
  type Range,
} from "../../engine/index.js";
import type { AgainView, PieceKind, PieceView } from "./events.js";

/** A block's name, and the index of its source. */
export type BlockName = { readonly label: string; readonly source?: number };

/** What pieces are described with. Without a store, all blocks count as cached. */
type Context = { readonly model: Pick<Model, "tokenizer" | "card" | "keyOf">; readonly store?: Pick<BlockStore, "has"> };

/** Maximum characters shown of a piece. */
const MAX_TEXT = 2_000;

/** Describes a plan's pieces for people. */
export async function describePieces({ pieces }: Plan, context: Context, nameOf: (block: BlockSource) => BlockName): Promise<PieceView[]> {
  const link = linkTokensOf(context.model);
  return Promise.all(
    pieces.map((piece) => (isBlockPiece(piece) ? describeBlock(piece, context, nameOf) : describeFresh(piece, link, context))),
  );
}

/** What linking recomputes: the tokens of blocks that the plan keeps and the linked plan does not. */
export function computedAgain({ pieces }: Plan, linked: Plan, { tokenizer }: Pick<Model, "tokenizer">): AgainView[] {
  const left = new Map<BlockSource, Set<number>>();
  for (const piece of linked.pieces.filter(isBlockPiece)) {
    const tokens = left.get(piece.block) ?? new Set();
    for (const i of keptTokens(piece)) tokens.add(i);
    left.set(piece.block, tokens);
  }
  return pieces.flatMap((piece, index) => {
    if (!isBlockPiece(piece)) return [];
    const { block } = piece;
    const kept = keptTokens(piece);
    const isAgain = (i: number) => !left.get(block)?.has(i);
    const tokens = kept.filter(isAgain).length;
    if (tokens === 0) return [];
    const runs: { readonly ids: number[]; readonly again: boolean }[] = [];
    for (const i of kept) {
      const again = isAgain(i);
      const last = runs.at(-1);
      if (last?.again === again) last.ids.push(block.tokens[i]!);
      else runs.push({ ids: [block.tokens[i]!], again });
    }
    return [
      { piece: index, tokens, parts: runs.map(({ ids, again }, i) => ({ text: tokenizer.decode(ids, { continues: i > 0 }), again })) },
    ];
  });
}

async function describeBlock(piece: BlockPiece, { model, store }: Context, nameOf: (block: BlockSource) => BlockName): Promise<PieceView> {
  const { block, at } = piece;
  const stored = store === undefined || (await store.has(model.keyOf(block)));
  const kept = keptTokens(piece);
  return {
    kind: stored ? "cached" : "encoded",
    ...nameOf(block),
    tokens: kept.length,
    places: runsOf(kept.map((i) => at + (block.offsets?.[i] ?? i))),
    ...textOf(
      kept.map((i) => block.tokens[i]!),
      model,
    ),
  };
}

async function describeFresh(
  { tokens, at, keep }: Exclude<Piece, BlockPiece>,
  link: ReadonlySet<number>,
  { model, store }: Context,
): Promise<PieceView> {
  const stored = keep !== undefined && (await store?.has(keep));
  const kind: PieceKind = tokens.every((token) => link.has(token)) ? "link" : stored ? "cached" : "new";
  const label = kind === "link" ? "link tokens" : kind === "cached" ? "conversation" : "computed now";
  return { kind, label, tokens: tokens.length, places: [[at, at + tokens.length]], ...textOf(tokens, model) };
}

/** Indexes of a block's tokens that a piece does not omit. */
function keptTokens({ block, omit = [] }: BlockPiece): number[] {
  return [...block.tokens.keys()].filter((i) => !omit.some(([start, end]) => start <= i && i < end));
}

/** Ascending positions as half-open ranges. */
function runsOf(positions: readonly number[]): Range[] {
  const runs: [number, number][] = [];
  for (const position of positions) {
    const last = runs.at(-1);
    if (last?.[1] === position) last[1]++;
    else runs.push([position, position + 1]);
  }
  return runs;
}

function linkTokensOf({ tokenizer, card }: Context["model"]): ReadonlySet<number> {
  return new Set(card.linkTokens.tokens.flatMap((token) => tokenizer.encode(token, { control: true })));
}

function textOf(tokens: readonly number[], { tokenizer }: Pick<Model, "tokenizer">): Pick<PieceView, "text" | "more"> {
  const text = tokenizer.decode(tokens).trim();
  return { text: text.slice(0, MAX_TEXT), more: Math.max(0, text.length - MAX_TEXT) };
}
