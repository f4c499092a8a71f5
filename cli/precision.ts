import { Option } from "commander";
import { DEFAULT_PRECISION, PRECISIONS, type Precision } from "../engine/index.js";
import { peekCorpus } from "../rag/index.js";

export function precisionOption(): Option {
  return new Option("--precision <name>", `how KV states are kept; a corpus keeps to its first (default: ${DEFAULT_PRECISION})`).choices(PRECISIONS);
}

/** What the model is to be loaded with: what was asked for, or what the corpus in the folder has. */
export async function precisionOf({ precision }: { readonly precision?: Precision }, corpus: string | undefined): Promise<Precision | undefined> {
  return precision ?? (corpus === undefined ? undefined : (await peekCorpus(corpus))?.precision);
}
