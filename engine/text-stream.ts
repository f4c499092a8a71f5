import type { ChatTemplate, Tokenizer } from "../plan/index.js";
import { withoutThought } from "./thought.js";

/** Makes text of tokens one by one, up to the first of the stop texts; a character that spans several tokens comes with its last. */
export class TextStream {
  private readonly ids: number[] = [];
  private emitted = 0;
  /** Whether a stop text has come: it and what follows it are not part of the text. */
  stopped = false;

  constructor(
    private readonly tokenizer: Pick<Tokenizer, "decode">,
    private readonly stops: readonly string[] = [],
    private readonly thought?: ChatTemplate["thought"],
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

  /** What is left when no further token comes. */
  end(): string {
    if (this.stopped) return "";
    const text = this.text();
    return this.advance(text, text.length);
  }

  private text(): string {
    const text = this.tokenizer.decode(this.ids);
    return this.thought ? withoutThought(text, this.thought) : text;
  }

  /** Length of the text's end that may be the beginning of a stop text. */
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
