import type { Plan } from "../plan/index.js";
import type { Compiled, Segment } from "./compile.js";
import type { LayoutOptions } from "./layout.js";

/** What the model reads at a half-open run of positions; a gap is taken by no included module. */
export type RenderedPart =
  | ({ readonly kind: "text"; readonly start: number; readonly end: number } & Omit<Segment, "tokens" | "at">)
  | { readonly kind: "gap"; readonly start: number; readonly end: number };

/** A prompt as the model reads it, in the order of its positions. */
export function renderPrompt({ segments }: Compiled): readonly RenderedPart[] {
  let end = 0;
  return segments.flatMap(({ tokens, at, ...segment }): RenderedPart[] => {
    const gap: RenderedPart[] = at > end ? [{ kind: "gap", start: end, end: at }] : [];
    end = at + tokens.length;
    return [...gap, { kind: "text", start: at, end, ...segment }];
  });
}

/** All text of a prompt, including control text, as it would be written without modules. */
export function textOfPrompt({ segments }: Compiled): string {
  return segments.map(({ text }) => text).join("");
}

/**
 * The prompt that an author would have written without modules: the same text without gaps, each argument in its
 * place, tokenised as one text between control tokens, and all of it computed. Documents keep their own tokens; link
 * tokens are left out, since nothing was encoded separately.
 */
export function naturalPlan({ segments }: Compiled, { tokenizer }: Pick<LayoutOptions, "tokenizer">): Plan {
  const tokens: number[] = [];
  let text = "";
  const flush = () => {
    for (const token of tokenizer.encode(text)) tokens.push(token);
    text = "";
  };
  for (const segment of segments) {
    if (segment.from.kind === "link") continue;
    if (!segment.control && segment.from.kind !== "document") {
      text += segment.text;
      continue;
    }
    flush();
    for (const token of segment.tokens) tokens.push(token);
  }
  flush();
  return { pieces: [{ tokens, at: 0 }] };
}
