import { readFileSync } from "node:fs";
import type { Piece, Plan } from "../../../engine/index.js";

export type GoldenCase = {
  question: string;
  documents: string[];
  mode: "full" | "blocked";
  link_tokens: number;
  prompt_ids: number[];
  segments: number[];
  top_ids: number[];
  top_logits: number[];
  greedy_ids: number[];
  greedy_text: string;
};

type Probe = { layer: number; token: number; head: number; k: number[]; v: number[] };

/** Values of a float32 reference that was written independently of this project. */
export const golden = JSON.parse(readFileSync(new URL("../../golden/kvsplice-135m.json", import.meta.url), "utf8")) as {
  template: { system: string; document: string; question: string };
  cases: GoldenCase[];
  documents: Record<string, string>;
  document_kv: { document: string; ids: number[]; probe: Probe[] };
};

/** The case as a plan: documents are blocks, everything else is fresh; with full attention everything is fresh. */
export function planOf({ prompt_ids, segments, mode }: GoldenCase): Plan {
  if (mode === "full") return { pieces: [{ tokens: prompt_ids, at: 0 }] };
  const pieces: Piece[] = [];
  for (let start = 0; start < prompt_ids.length; ) {
    let end = start;
    while (end < prompt_ids.length && segments[end] === segments[start]) end++;
    const tokens = prompt_ids.slice(start, end);
    pieces.push(segments[start] === 0 ? { tokens, at: start } : { block: { tokens }, at: start });
    start = end;
  }
  return { pieces };
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
