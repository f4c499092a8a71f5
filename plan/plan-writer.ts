import { type BlockPiece, type BlockSource, endOf, type FreshPiece, type Piece, type Plan } from "./plan.js";

/** Lays the pieces of a plan one after the other. The cursor is the position where the next one begins. */
export class PlanWriter {
  private readonly laid: Piece[] = [];
  private cursor = 0;

  /** The position where the next piece begins. */
  get at(): number {
    return this.cursor;
  }

  get pieces(): readonly Piece[] {
    return this.laid;
  }

  get plan(): Plan {
    return { pieces: this.laid };
  }

  /** A cached block; the next piece begins after the last token that it keeps. */
  block(block: BlockSource, options: Pick<BlockPiece, "omit" | "loose"> = {}): this {
    return this.lay({ block, at: this.cursor, ...options });
  }

  /** Tokens that are computed now; an empty list adds no piece. */
  fresh(tokens: readonly number[], options: Pick<FreshPiece, "keep" | "linked" | "asks"> = {}): this {
    return tokens.length === 0 ? this : this.lay({ tokens, at: this.cursor, ...options });
  }

  /** Pieces that were laid out elsewhere, moved so that the first of them begins at the cursor. */
  moved(pieces: readonly Piece[]): this {
    const by = this.cursor - (pieces[0]?.at ?? this.cursor);
    for (const piece of pieces) this.lay({ ...piece, at: piece.at + by });
    return this;
  }

  /** Moves the cursor to `at`, leaving positions free or going back. */
  moveTo(at: number): this {
    this.cursor = at;
    return this;
  }

  private lay(piece: Piece): this {
    this.laid.push(piece);
    this.cursor = endOf(piece);
    return this;
  }
}
