import { endOf, type BlockKey, type BlockPiece, type BlockSource, type Piece, type Plan } from "./plan.js";
import type { Range } from "./ranges.js";

/** Lays pieces of a plan one behind the other. The cursor is the position where the next one begins. */
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

  /** A cached block; the next piece begins behind the last token that it keeps. */
  block(block: BlockSource, omit?: readonly Range[]): this {
    return this.lay({ block, at: this.cursor, ...(omit && { omit }) } satisfies BlockPiece);
  }

  /** Tokens that are computed now; none lay no piece. `keep` names their KV, which is then kept. */
  fresh(tokens: readonly number[], keep?: BlockKey): this {
    return tokens.length === 0 ? this : this.lay({ tokens, at: this.cursor, ...(keep !== undefined && { keep }) });
  }

  /** Pieces that were laid side by side elsewhere, moved so that the first of them begins at the cursor. */
  moved(pieces: readonly Piece[]): this {
    const by = this.cursor - (pieces[0]?.at ?? this.cursor);
    for (const piece of pieces) this.lay({ ...piece, at: piece.at + by });
    return this;
  }

  /** Leaves positions free, up to `at`, or goes back. */
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
