import type { Compiled, Segment } from "./compile.js";
import type { Role } from "./tree.js";

/** A run of a message's text from one place of the schema, or from the prompt. */
export type ExportPart = {
  readonly from: Segment["from"];
  text: string;
  /** Tokens of the model that it was compiled for: others count otherwise, by a few in a hundred. */
  tokens: number;
  /** Whether every prompt that includes its module has the same text. */
  stable: boolean;
};

export type ExportMessage = { readonly role: Role; readonly parts: readonly ExportPart[] };

/** A prompt's messages without control text. Text outside of messages is a user's. */
export function messagesOf({ segments }: Compiled): readonly ExportMessage[] {
  const messages: { role: Role; parts: ExportPart[] }[] = [];
  let open: (typeof messages)[number] | undefined;
  const begin = (role: Role) => {
    open = { role, parts: [] };
    messages.push(open);
    return open;
  };
  for (const segment of segments) {
    const { control, role = "user", from, text, tokens, cached } = segment;
    if (from.kind === "link") continue;
    if (control) {
      // Control text opens a message, and closes one that is open.
      if (open) open = undefined;
      else begin(role);
      continue;
    }
    const { parts } = open ?? begin(role);
    const last = parts.at(-1);
    const module = from.kind === "argument" ? from.name.replace(/\/[^/]*$/, "") : from.name;
    const lastModule = last?.from.kind === "argument" ? last.from.name.replace(/\/[^/]*$/, "") : last?.from.name;
    if (last && module === lastModule && from.kind !== "document") {
      last.text += text;
      last.tokens += tokens.length;
      last.stable &&= cached;
    } else
      parts.push({ from: from.kind === "argument" ? { kind: "module", name: module } : from, text, tokens: tokens.length, stable: cached });
  }
  return messages.filter(({ parts }) => parts.length > 0);
}

/** Tokens from which OpenAI and Anthropic cache a prefix. */
const LEAST_PREFIX = 1024;

/** Breakpoints that Anthropic takes in one request. */
const MAX_BREAKPOINTS = 4;

/** Chat messages of OpenAI's API, which caches what a request begins with: in each message what is stable comes first. */
export function toOpenAi(messages: readonly ExportMessage[]) {
  return {
    messages: messages.map(({ role, parts }) => {
      const sorted = [...parts.filter(({ stable }) => stable), ...parts.filter(({ stable }) => !stable)];
      return { role, content: sorted.map(({ text }) => text).join("") };
    }),
  };
}

type TextBlock = { readonly type: "text"; readonly text: string; readonly cache_control?: { readonly type: "ephemeral" } };

/**
 * A request of Anthropic's API: system messages apart, `cache_control` behind modules of the stable text that it begins
 * with: at the last, and before it where about equal shares end, each above the least length that is cached.
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
