import { isBlockPiece, type BlockPiece, type FreshPiece, type Piece, type Plan } from "../../plan/index.js";

export function isLoose(piece: Piece): piece is BlockPiece {
  return isBlockPiece(piece) && piece.loose === true;
}

/** Whether there is anything to link. */
export function hasLoose({ pieces }: Plan): boolean {
  return pieces.some(isLoose);
}

/** The plan with nothing of it kept or taken from what was kept. */
export function withoutKeeping({ pieces }: Plan): Plan {
  return {
    pieces: pieces.map((piece) => {
      if (isBlockPiece(piece)) return piece;
      const { keep: _, ...fresh } = piece;
      return fresh satisfies FreshPiece;
    }),
  };
}

export function freshTokens({ pieces }: Plan): number {
  return pieces.reduce((sum, piece) => sum + (isBlockPiece(piece) ? 0 : piece.tokens.length), 0);
}
