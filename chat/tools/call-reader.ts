import { type CallForm, SPELLINGS, type ToolCall } from "../../plan/index.js";

/** A code block in Markdown: models trained on code may write a call as one (Qwen2.5-Coder). */
const FENCE = /```[\w-]*[^\S\n]*\n/;
const FENCE_END = "```";
/** An end of a text that may be the beginning of a fence. */
const FENCE_BEGUN = /`{1,2}$|```[\w-]*[^\S\n]*$/;

/** Result of reading more of an answer's text. */
export type Read = { readonly said: string; readonly calls: readonly ToolCall[] };

/** Separates an answer's text from its calls while it is generated. Anything that only looks like a call is text. */
export class CallReader {
  private held = "";
  private started = false;
  /** Within a code block that is not a call. */
  private inCode = false;
  private readonly begin: string;
  private readonly end: string;

  /** @param names of the existing tools: an object with another name is not a call */
  constructor(
    private readonly form: CallForm,
    private readonly names: ReadonlySet<string>,
  ) {
    this.begin = SPELLINGS[form].begin.trim();
    this.end = SPELLINGS[form].end.trim();
  }

  /** Takes the next part of the answer's text, and returns what is now known to be said or called. */
  push(text: string): Read {
    this.held += text;
    return this.begin === "" ? this.pushWhole() : this.pushTagged();
  }

  /** What is left when the text has ended. */
  finish(): Read {
    const { held } = this;
    this.held = "";
    const calls = this.begin === "" || this.maybeBare(held) ? this.callsOf(held) : undefined;
    if (calls) return { said: "", calls };
    if (this.begin === "") return { said: held, calls: [] };
    const text = held.trimStart();
    if (text.startsWith(this.begin)) {
      const call = this.callOf(parsed(text.slice(this.begin.length)), held);
      if (call) return { said: "", calls: [call] };
    }
    const fence = FENCE.exec(text);
    const fenced = fence?.index === 0 && !this.inCode ? this.callsOf(text.slice(fence[0].length)) : undefined;
    return fenced ? { said: "", calls: fenced } : { said: held, calls: [] };
  }

  /** A form without tags: an answer that begins like a call is held back until it is complete. */
  private pushWhole(): Read {
    const first = this.held.trimStart()[0];
    if (!this.started && (first === undefined || first === (this.form === "list" ? "[" : "{"))) return { said: "", calls: [] };
    this.started = true;
    const said = this.held;
    this.held = "";
    return { said, calls: [] };
  }

  /** Models trained on tags sometimes leave them out (Qwen2.5-Coder): an answer that is an object may be a call. */
  private maybeBare(text: string): boolean {
    return !this.started && text.trimStart().startsWith("{");
  }

  private pushTagged(): Read {
    const calls: ToolCall[] = [];
    let said = "";
    if (this.maybeBare(this.held)) return { said, calls };
    this.started ||= this.held.trim() !== "";
    for (;;) {
      const next = this.inCode ? this.code() : this.words();
      if (next === undefined) return { said, calls };
      said += next.said;
      calls.push(...next.calls);
    }
  }

  /** The next text up to a call, and the call if it is complete; undefined if more text is needed. */
  private words(): Read | undefined {
    const fence = FENCE.exec(this.held);
    const tag = this.held.indexOf(this.begin);
    if (tag >= 0 && (!fence || tag < fence.index)) return this.tagged(tag);
    if (fence) return this.fenced(fence);
    const begun = FENCE_BEGUN.exec(this.held)?.index ?? this.held.length;
    return this.take(Math.min(this.held.length - heldBack(this.held, this.begin), this.held.slice(0, begun).trimEnd().length));
  }

  private tagged(at: number): Read | undefined {
    const end = this.held.indexOf(this.end, at);
    if (end < 0) return this.take(this.held.slice(0, at).trimEnd().length);
    const whole = this.held.slice(at, end + this.end.length);
    const call = this.callOf(parsed(whole.slice(this.begin.length, -this.end.length)), whole);
    const before = this.held.slice(0, at);
    this.held = this.held.slice(at + whole.length);
    return call ? { said: before.trimEnd(), calls: [call] } : { said: before + whole, calls: [] };
  }

  /** A code block is one or more calls if it contains nothing else. */
  private fenced({ 0: opening, index }: RegExpExecArray): Read | undefined {
    const start = index + opening.length;
    const first = this.held.slice(start).trimStart()[0];
    if (first !== undefined && first !== "{" && first !== "[") {
      this.inCode = true;
      return this.take(start);
    }
    const end = this.held.indexOf(FENCE_END, start);
    if (end < 0) return this.take(this.held.slice(0, index).trimEnd().length);
    const calls = this.callsOf(this.held.slice(start, end));
    if (!calls) return this.take(end + FENCE_END.length);
    const said = this.held.slice(0, index).trimEnd();
    this.held = this.held.slice(end + FENCE_END.length);
    return { said, calls };
  }

  /** The rest of a code block that is not a call. */
  private code(): Read | undefined {
    const end = this.held.indexOf(FENCE_END);
    if (end < 0) return this.take(this.held.length - heldBack(this.held, FENCE_END));
    this.inCode = false;
    return this.take(end + FENCE_END.length);
  }

  /** Emits this many characters as text; undefined for none. */
  private take(length: number): Read | undefined {
    if (length === 0) return undefined;
    const said = this.held.slice(0, length);
    this.held = this.held.slice(length);
    return { said, calls: [] };
  }

  private callsOf(text: string): readonly ToolCall[] | undefined {
    const value = parsed(text);
    const each = Array.isArray(value) ? value : [value];
    const calls = each.map((one) => this.callOf(one, each.length === 1 ? text : JSON.stringify(one)));
    return calls.length > 0 && calls.every((call) => call !== undefined) ? calls : undefined;
  }

  private callOf(value: unknown, text: string): ToolCall | undefined {
    if (typeof value !== "object" || value === null) return undefined;
    const {
      name,
      arguments: own,
      parameters = own,
    } = value as { readonly name?: unknown; readonly arguments?: unknown; readonly parameters?: unknown };
    if (typeof name !== "string" || !this.names.has(name) || typeof parameters !== "object" || parameters === null) return undefined;
    return { name, arguments: asWritten(text, parameters) };
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The text of the arguments as written, so that a message that is sent back gives the same tokens. */
function asWritten(text: string, value: object): string {
  const start = /"(?:arguments|parameters)"\s*:\s*/.exec(text);
  const written = start ? text.slice(start.index + start[0].length, text.lastIndexOf("}")).trimEnd() : "";
  return JSON.stringify(parsed(written)) === JSON.stringify(value) ? written : JSON.stringify(value);
}

/** Length of the text's end that may be the beginning of the tag or of white space before it. */
function heldBack(text: string, tag: string): number {
  let length = Math.min(tag.length - 1, text.length);
  while (length > 0 && !text.endsWith(tag.slice(0, length))) length--;
  const rest = text.slice(0, text.length - length);
  return length + rest.length - rest.trimEnd().length;
}
