import { type BlockPiece, type FreshPiece, isBlockPiece, type Piece, type Plan } from "../../plan/index.js";

export function isLoose(piece: Piece): piece is BlockPiece {
  return isBlockPiece(piece) && piece.loose !== undefined;
}

/** Whether a loose block may be moved among others. */
export function isMovable(piece: Piece): piece is BlockPiece {
  return isBlockPiece(piece) && piece.loose === true;
}

/** Whether there is anything to link. */
export function hasLoose({ pieces }: Plan): boolean {
  return pieces.some(isLoose);
}

/** The plan, keeping only KV whose key says that it is linked. */
export function keptAsLinked({ pieces }: Plan): Plan {
  return { pieces: pieces.map((piece) => (isBlockPiece(piece) || piece.linked ? piece : withoutKeep(piece))) };
}

/**
 * The plan, keeping only KV that its keys account for: if KV computed earlier is lost, it is computed under this prompt's
 * choice of tokens, and so is everything that sees it.
 * @param found which of its pieces were found
 */
export function keptAsFound(plan: Plan, found: ReadonlyMap<Piece, unknown>): Plan {
  const isWhole = plan.pieces.every((piece) => isBlockPiece(piece) || piece.linked !== "before" || found.has(piece));
  return isWhole ? plan : { pieces: plan.pieces.map((piece) => (isBlockPiece(piece) || found.has(piece) ? piece : withoutKeep(piece))) };
}

function withoutKeep({ keep: _, linked: __, ...fresh }: FreshPiece): FreshPiece {
  return fresh;
}

export function freshTokens({ pieces }: Plan): number {
  return pieces.reduce((sum, piece) => sum + (isBlockPiece(piece) ? 0 : piece.tokens.length), 0);
}
