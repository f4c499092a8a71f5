import { carriedFile } from "../../engine/index.js";

import type { EncoderFiles } from "./folder.js";

/** Identifies the embedder that comes with kvsplice, and how it cuts texts into windows. A corpus remembers it. */
export const MINILM_ID = "minilm-l6-v2-int8/windows-256";

/**
 * The highest value, in hundredths, at which no set of training questions (Natural Questions, SQuAD, BoolQ) over its own
 * passages loses more than 2 %: `npx tsx bench/finding.ts --tune --limit 700`.
 */
export const MINILM_FLOOR = 0.32;

const DATA_PACKAGE = "@kvsplice/embedder-minilm";

/** all-MiniLM-L6-v2, which comes with kvsplice. Its model card uses at most 256 word pieces, including [CLS] and [SEP]. */
export function minilmFiles(): EncoderFiles {
  return {
    model: carriedFile("minilm-l6-v2-int8.onnx", DATA_PACKAGE),
    tokenizer: carriedFile("minilm-l6-v2-tokenizer.json", DATA_PACKAGE),
    id: MINILM_ID,
    name: "all-MiniLM-L6-v2",
    pooling: "mean",
    windowTokens: 256,
    padId: 0,
    prompts: { question: "", document: "" },
  };
}
