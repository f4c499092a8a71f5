import type { ChatTemplate, Tokenizer } from "../plan/index.js";
import { withoutThought } from "./thought.js";

export type TextStreamOptions = {
  /** Stop texts: each ends the text. */
  readonly stops?: readonly string[];
  /** A passage between these tags at the start is left out. */
  readonly thought?: ChatTemplate["thought"];
  /** The text continues another: it begins with a space if its tokens do, and with no thought. */
  readonly continues?: boolean | undefined;
};

/** Turns tokens into text one by one, up to the first stop text. A character that spans several tokens comes with its last one. */
export class TextStream {
  private readonly ids: number[] = [];
  private emitted = 0;
  /** Whether a stop text has appeared: it and what follows are not part of the text. */
  stopped = false;

  constructor(
    private readonly tokenizer: Pick<Tokenizer, "decode">,
    private readonly options: TextStreamOptions = {},
  ) {}

  push(id: number): string {
    this.ids.push(id);
    const text = this.text();
    const found = Math.min(...this.stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0));
    if (found < Infinity) {
      this.stopped = true;
      return this.advance(text, found);
    }
    if (text.endsWith("\uFFFD")) return "";
    return this.advance(text, text.length - this.heldBack(text));
  }

  /** What is left when no more tokens come. */
  end(): string {
    if (this.stopped) return "";
    const text = this.text();
    return this.advance(text, text.length);
  }

  private get stops(): readonly string[] {
    return this.options.stops ?? [];
  }

  private text(): string {
    const { thought, continues = false } = this.options;
    const text = this.tokenizer.decode(this.ids, { continues });
    return thought && !continues ? withoutThought(text, thought) : text;
  }

  /** Length of the text's end that may begin a stop text. */
  private heldBack(text: string): number {
    let held = 0;
    for (const stop of this.stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > held; length--) {
        if (text.endsWith(stop.slice(0, length))) held = length;
      }
    }
    return held;
  }

  private advance(text: string, end: number): string {
    const fresh = text.slice(this.emitted, end);
    this.emitted = Math.max(this.emitted, end);
    return fresh;
  }
}
