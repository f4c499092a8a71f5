import { KvspliceError } from "../plan/index.js";

/** A pass over more tokens takes longer than they could save. */
const MOST_GUESSED = 32;

/** Longest run of tokens whose match makes one place better than another. */
const LONGEST_MATCH = 4;

/**
 * Guesses how an answer continues: with what followed the answer's last tokens earlier, in the prompt or in the answer
 * itself. Answers over documents often repeat them (prompt lookup decoding, Saxena 2023).
 */
export class PromptLookup {
  private readonly text: number[];
  private readonly promptLength: number;

  /**
   * @param most tokens in one guess
   * @throws KvspliceError `bad_argument`
   */
  constructor(
    prompt: readonly number[],
    private readonly most: number,
  ) {
    if (!Number.isInteger(most) || most < 1 || most > MOST_GUESSED) {
      throw new KvspliceError(
        "bad_argument",
        `Prompt lookup is set to guess ${most} tokens at a time; choose a whole number from 1 to ${MOST_GUESSED}, or 0 for none.`,
      );
    }
    this.text = [...prompt];
    this.promptLength = prompt.length;
  }

  /** The answer's next token. */
  push(token: number): void {
    this.text.push(token);
  }

  /** What may follow: from the place that matches most of the answer's last tokens; the latest if there are several. */
  guess(): number[] {
    const { text } = this;
    const last = text.length - 1;
    const answered = text.length - this.promptLength;
    let [best, place] = [0, 0];
    for (let at = last - 1; at >= 0 && best < LONGEST_MATCH; at--) {
      let match = 0;
      while (match < Math.min(answered, LONGEST_MATCH) && match <= at && text[at - match] === text[last - match]) match++;
      if (match > best) [best, place] = [match, at];
    }
    return best === 0 ? [] : text.slice(place + 1, place + 1 + this.most);
  }
}
