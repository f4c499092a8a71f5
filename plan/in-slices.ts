import { Pace } from "./pace.js";
import type { Reading, ReadOptions, Tokenizer } from "./tokenizer.js";

/** Texts up to this many characters are read at once, without giving others a turn: a few milliseconds of work. */
const READ_WHOLE = 16_384;

/** Kept short for control tokens and the like. */
const FEW = 256;

/** Characters that are read before others get a turn. */
const STEP = 4_096;

/** A text that has not been read yet and is too long to be read at once. */
class Unread extends Error {
  constructor(
    readonly text: string,
    readonly options: ReadOptions,
  ) {
    super("A text must be read in slices first.");
  }
}

export type SlicesOptions = {
  /** Maximum tokens of a text that `work` needs; the text is read no further than that. */
  readonly most: number;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Runs work that turns texts into tokens, without blocking the thread for a long text or for many. When `work` meets such a
 * text, it is read in slices, with turns for others in between, and `work` starts over. So `work` must have no side effects,
 * and must not catch errors.
 * @throws KvspliceError `cancelled`, and what `work` throws
 */
export async function inSlices<T>(
  tokenizer: Tokenizer,
  { most, signal }: SlicesOptions,
  work: (tokenizer: Tokenizer) => T | Promise<T>,
): Promise<T> {
  const pace = new Pace(signal);
  const readings = new Map<string, Map<string, Reading>>(); // by options, then by text
  let left = READ_WHOLE;
  const begin = (text: string, options: ReadOptions): Reading => {
    const alike = readings.get(JSON.stringify(options)) ?? new Map<string, Reading>();
    const reading = tokenizer.read(text, options);
    readings.set(JSON.stringify(options), alike.set(text, reading));
    return reading;
  };
  const known = (text: string, options: ReadOptions): Reading | undefined => {
    if (text.length <= FEW) return undefined;
    const reading = readings.get(JSON.stringify(options))?.get(text);
    if (reading !== undefined) return reading;
    left -= text.length;
    if (left < 0) throw new Unread(text, options);
    return begin(text, options);
  };
  const reader: Tokenizer = Object.create(tokenizer, {
    read: { value: (text: string, options: ReadOptions = {}) => known(text, options) ?? tokenizer.read(text, options) },
    encode: {
      value(text: string, options: ReadOptions = {}) {
        const reading = known(text, options);
        if (reading === undefined) return tokenizer.encode(text, options);
        while (reading.advance(Infinity));
        return [...reading.ids];
      },
    },
  }) as Tokenizer;
  for (;;) {
    try {
      return await work(reader);
    } catch (error) {
      if (!(error instanceof Unread)) throw error;
      const reading = begin(error.text, error.options);
      while (reading.ids.length <= most && reading.advance(STEP)) await pace.breathe();
    }
    left = READ_WHOLE;
    await pace.breathe();
  }
}
