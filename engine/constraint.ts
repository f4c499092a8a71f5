/** What answers may say: a grammar over a model's vocabulary. */
export interface Grammar {
  /** A constraint in its initial state, for one answer. */
  begin(): Constraint;
}

/** The state of one answer in its grammar. Its owner disposes of it. */
export interface Constraint extends Disposable {
  /**
   * Reports which tokens may come next, including the tokens that end an answer if it may end here.
   * @param mask 32 tokens per word: bit `t % 32` of word `t >> 5` is set if token t may come next, and cleared otherwise
   */
  allowed(mask: Uint32Array): void;
  /** The answer's next token: one of those allowed that does not end the answer. */
  accept(token: number): void;
  /** Takes back the tokens that were accepted last. */
  rollback(tokens: number): void;
  /** Whether only the end of the answer may follow. */
  readonly finished: boolean;
}

/** How many of the tokens may come next in sequence: as much of a guess as the grammar allows. */
export function allowedRun(constraint: Constraint, mask: Uint32Array, tokens: readonly number[]): number {
  let run = 0;
  for (; run < tokens.length && !constraint.finished; run++) {
    constraint.allowed(mask);
    if (!isAllowed(mask, tokens[run]!)) break;
    constraint.accept(tokens[run]!);
  }
  constraint.rollback(run);
  return run;
}

/** Logits `[vocabulary]` without those of tokens that may not come next. */
export function masked(logits: Float32Array, mask: Uint32Array): Float32Array {
  const left = new Float32Array(logits.length).fill(-Infinity);
  for (let word = 0; word < mask.length; word++) {
    let bits = mask[word]!;
    if (bits === 0) continue;
    const first = word << 5;
    if (bits === 0xffffffff) left.set(logits.subarray(first, first + 32), first);
    else {
      for (; bits !== 0; bits &= bits - 1) {
        const token = first + 31 - Math.clz32(bits & -bits);
        if (token < logits.length) left[token] = logits[token]!;
      }
    }
  }
  return left;
}

/** A mask for `Constraint.allowed`, all bits cleared: `ceil(vocabulary / 32)` words. */
export function createMask(vocabulary: number): Uint32Array {
  return new Uint32Array((vocabulary + 31) >> 5);
}

function isAllowed(mask: Uint32Array, token: number): boolean {
  return (mask[token >> 5]! & (1 << (token & 31))) !== 0;
}
