import { type BlockPiece, type BlockSource, type BlockStore, isBlockPiece, type Model, type Piece, type Plan, type Range } from "../../engine/index.js";
import type { PieceKind, PieceView } from "./events.js";

/** What a block is called, and which source it is. */
export type BlockName = { readonly label: string; readonly source?: number };

/** What pieces are described by; where no store is given, all blocks count as cached. */
type Context = { readonly model: Pick<Model, "tokenizer" | "card" | "keyOf">; readonly store?: Pick<BlockStore, "has"> };

/** Characters of a piece that are shown. */
const MAX_TEXT = 2_000;

/** A plan's pieces for people. */
export async function describePieces({ pieces }: Plan, context: Context, nameOf: (block: BlockSource) => BlockName): Promise<PieceView[]> {
  const link = linkTokensOf(context.model);
  return Promise.all(pieces.map((piece) => (isBlockPiece(piece) ? describeBlock(piece, context, nameOf) : describeFresh(piece, link, context.model))));
}

async function describeBlock({ block, at, omit = [] }: BlockPiece, { model, store }: Context, nameOf: (block: BlockSource) => BlockName): Promise<PieceView> {
  const stored = store === undefined || (await store.has(model.keyOf(block)));
  const kept = [...block.tokens.keys()].filter((i) => !omit.some(([start, end]) => start <= i && i < end));
  return {
    kind: stored ? "cached" : "encoded",
    ...nameOf(block),
    tokens: kept.length,
    places: runsOf(kept.map((i) => at + (block.offsets?.[i] ?? i))),
    text: textOf(kept.map((i) => block.tokens[i]!), model),
  };
}

function describeFresh({ tokens, at }: Exclude<Piece, BlockPiece>, link: ReadonlySet<number>, model: Context["model"]): PieceView {
  const kind: PieceKind = tokens.every((token) => link.has(token)) ? "link" : "new";
  const label = kind === "link" ? "link tokens" : "computed now";
  return { kind, label, tokens: tokens.length, places: [[at, at + tokens.length]], text: textOf(tokens, model) };
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

function textOf(tokens: readonly number[], { tokenizer }: Pick<Model, "tokenizer">): string {
  const text = tokenizer.decode(tokens).trim();
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}
