import { KvspliceError } from "../plan/index.js";

/** Adjustments of the model's logits before a token is chosen; each is off by default. */
export type PenaltyOptions = {
  /**
   * Above 1 makes tokens of the prompt and of the answer less likely, below 1 likelier: a positive logit is divided by it,
   * a negative one multiplied (CTRL, Keskar et al. 2019). 1 by default.
   */
  readonly repetitionPenalty?: number;
  /** Subtracted from a token's logit for each time it occurs in the answer; 0 by default. */
  readonly frequencyPenalty?: number;
  /** Subtracted from a token's logit if it occurs in the answer at all; 0 by default. */
  readonly presencePenalty?: number;
  /** Added to the logits of tokens, by id: -100 bans a token, 100 leaves no other. None by default. */
  readonly logitBias?: ReadonlyMap<number, number>;
};

/** One answer's penalties: repetition first, then those for the answer's own tokens, then the biases. */
export class Penalties {
  private readonly inPrompt: ReadonlySet<number>;
  private readonly said = new Map<number, number>();
  private readonly isOff: boolean;

  /** @throws KvspliceError `bad_argument` */
  constructor(
    private readonly options: PenaltyOptions,
    prompt: readonly number[],
  ) {
    const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0, logitBias } = options;
    if (!(repetitionPenalty > 0 && repetitionPenalty < Infinity))
      throw new KvspliceError("bad_argument", `The repetition penalty is ${repetitionPenalty}; choose a number above 0 (1 for none).`);
    for (const penalty of [frequencyPenalty, presencePenalty, ...(logitBias?.values() ?? [])]) {
      if (!Number.isFinite(penalty))
        throw new KvspliceError("bad_argument", `A penalty or bias is ${penalty}; choose a number (0 for none).`);
    }
    this.inPrompt = new Set(repetitionPenalty === 1 ? [] : prompt);
    this.isOff = repetitionPenalty === 1 && frequencyPenalty === 0 && presencePenalty === 0 && !logitBias?.size;
  }

  /**
   * Logits `[vocabulary]` with the penalties applied; the given logits themselves, never modified, if there are none.
   * @throws KvspliceError `bad_argument` for a bias on a token that does not exist
   */
  apply(logits: Float32Array): Float32Array {
    if (this.isOff) return logits;
    const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0, logitBias = [] } = this.options;
    const moved = Float32Array.from(logits);
    if (repetitionPenalty !== 1) {
      for (const id of new Set([...this.inPrompt, ...this.said.keys()]))
        moved[id] = moved[id]! > 0 ? moved[id]! / repetitionPenalty : moved[id]! * repetitionPenalty;
    }
    for (const [id, times] of this.said) moved[id]! -= times * frequencyPenalty + presencePenalty;
    for (const [id, bias] of logitBias) {
      if (!(id in moved))
        throw new KvspliceError("bad_argument", `A logit bias names token ${id}; the model has tokens 0 to ${moved.length - 1}.`);
      moved[id]! += bias;
    }
    return moved;
  }

  /** Counts a token of the answer. */
  say(id: number): void {
    if (!this.isOff) this.said.set(id, (this.said.get(id) ?? 0) + 1);
  }
}
