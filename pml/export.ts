import type { Compiled, Segment } from "./compile.js";
import type { Role } from "./tree.js";

/** A run of a message's text, from one place of the schema or from the prompt. */
export type ExportPart = {
  readonly from: Segment["from"];
  text: string;
  /** Tokens of the model it was compiled for; other models' counts differ by a few percent. */
  tokens: number;
  /** Whether the text is the same in every prompt that includes its module. */
  stable: boolean;
};

/** A message of a schema, with its parts. */
export type ExportMessage = {
  readonly role: Role;
  readonly parts: readonly ExportPart[];
  /** Whether its parts must keep their order, because a variable's value appears outside modules. */
  readonly ordered: boolean;
};

/** A prompt's messages without control text. Text outside messages belongs to a user message. */
export function messagesOf({ segments }: Compiled): readonly ExportMessage[] {
  type Open = { role: Role; parts: ExportPart[]; ordered: boolean };
  const messages: Open[] = [];
  let open: Open | undefined;
  const begin = (role: Role): Open => {
    open = { role, parts: [], ordered: false };
    messages.push(open);
    return open;
  };
  for (const segment of segments) {
    const { control, role = "user", from, text, tokens, cached } = segment;
    if (from.kind === "link") continue;
    if (control) {
      // Control text opens a message, or closes the open one.
      if (open) open = undefined;
      else begin(role);
      continue;
    }
    const message: Open = open ?? begin(role);
    const { parts } = message;
    const last = parts.at(-1);
    const origin = from.kind === "argument" ? ({ kind: "module", name: from.in } as const) : from;
    if (from.kind === "argument" && from.outside) message.ordered = true;
    if (last && origin.name === last.from.name && origin.kind !== "document") {
      last.text += text;
      last.tokens += tokens.length;
      last.stable &&= cached;
    } else parts.push({ from: origin, text, tokens: tokens.length, stable: cached });
  }
  return messages.filter(({ parts }) => parts.length > 0);
}

/** Shortest prefix that OpenAI and Anthropic cache, in tokens. */
const LEAST_PREFIX = 1024;

/** Maximum breakpoints that Anthropic accepts in one request. */
const MAX_BREAKPOINTS = 4;

/** Chat messages of OpenAI's API, which caches a request's prefix: in each message the stable parts come first, if their order is free. */
export function toOpenAi(messages: readonly ExportMessage[]) {
  return {
    messages: messages.map(({ role, parts, ordered }) => {
      if (ordered) return { role, content: parts.map(({ text }) => text).join("") };
      const sorted = [...parts.filter(({ stable }) => stable), ...parts.filter(({ stable }) => !stable)];
      return { role, content: sorted.map(({ text }) => text).join("") };
    }),
  };
}

type TextBlock = { readonly type: "text"; readonly text: string; readonly cache_control?: { readonly type: "ephemeral" } };

/**
 * A request of Anthropic's API: system messages are separate, and `cache_control` follows modules of the stable text at
 * its start: the last one, and earlier ones that split it into about equal shares, each above the shortest cached length.
 */
export function toAnthropic(messages: readonly ExportMessage[]): {
  readonly system: readonly TextBlock[];
  readonly messages: readonly { readonly role: Role; readonly content: readonly TextBlock[] }[];
} {
  const ordered = [...messages.filter(({ role }) => role === "system"), ...messages.filter(({ role }) => role !== "system")];
  const parts = ordered.flatMap((message) => message.parts);
  const firstLoose = parts.findIndex(({ stable }) => !stable);
  const stable = parts.slice(0, firstLoose === -1 ? parts.length : firstLoose);
  let tokens = 0;
  const ends = stable.map((part) => ({ part, tokens: (tokens += part.tokens) })).filter((end) => end.tokens >= LEAST_PREFIX);
  const breakpoints = new Set<ExportPart>();
  for (let share = 1; share <= MAX_BREAKPOINTS; share++) {
    const end = ends.findLast((each) => each.tokens <= (tokens * share) / MAX_BREAKPOINTS) ?? undefined;
    if (end) breakpoints.add(end.part);
  }
  const blockOf = (part: ExportPart): TextBlock => ({
    type: "text",
    text: part.text,
    ...(breakpoints.has(part) && { cache_control: { type: "ephemeral" } as const }),
  });
  return {
    system: messages.filter(({ role }) => role === "system").flatMap((message) => message.parts.map(blockOf)),
    messages: messages.filter(({ role }) => role !== "system").map(({ role, parts }) => ({ role, content: parts.map(blockOf) })),
  };
}
