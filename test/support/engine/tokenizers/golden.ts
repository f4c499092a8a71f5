import { readFileSync } from "node:fs";
import { join } from "node:path";

const folder = join(import.meta.dirname, "../../../golden/tokenizers");
const read = (name: string): unknown => JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"));

export type Metadata = Readonly<Record<string, unknown>>;

/** Small vocabularies that `bench/compare/tokenizers.ts` trained on this project's documentation, as GGUF metadata. */
export const vocabularies: Readonly<Record<"bytes" | "marked", Metadata>> = {
  bytes: { "tokenizer.ggml.pre": "gpt-2", ...(read("bytes") as Metadata) },
  marked: read("marked") as Metadata,
};

/** llama.cpp's tokens for the texts, given a vocabulary and further metadata: ids separated by spaces. */
export type GoldenCase = {
  readonly vocabulary: keyof typeof vocabularies;
  readonly metadata: Metadata;
  readonly text: readonly string[];
  /** By a text's index, if control tokens make a difference. */
  readonly control: Readonly<Record<number, string>>;
};

export const golden = read("llama-cpp") as { readonly texts: readonly string[]; readonly cases: readonly GoldenCase[] };
