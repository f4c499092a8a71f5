import type { Precision } from "../../engine/index.js";
import type { Machine } from "./machine.js";
import type { Series } from "./series.js";

/** Results of one run: results.json. Times in milliseconds, sizes in bytes. */
export type Results = {
  readonly machine: Machine;
  readonly threads: number;
  readonly quick: boolean;
  readonly seconds: number;
  readonly versions: { readonly kvsplice: string; readonly node_llama_cpp: string; readonly llama_cpp: string };
  readonly first_token: readonly FirstToken[];
  readonly links: readonly { readonly link_tokens: number; readonly first_token_ms: Series; readonly computed_tokens: number }[];
  readonly precisions: readonly { readonly precision: Precision; readonly first_token_ms: Series; readonly fetch_and_splice_ms: Series }[];
  readonly prefix_cache: readonly {
    readonly name: string;
    readonly first_token_ms: Series;
    readonly kept_tokens: number;
    readonly spliced_ms: Series;
  }[];
  /** Per token after the first. */
  readonly decode: {
    readonly context: number;
    readonly tokens: number;
    readonly kvsplice_ms: Series;
    readonly llama_ms: Series;
    readonly llama_plain_ms: Series;
  };
  readonly encode: { readonly tokens: number; readonly kvsplice_tokens_per_s: Series; readonly llama_tokens_per_s: Series };
  readonly splice: { readonly tokens: number; readonly bytes: number; readonly splice_ms: Series; readonly copy_ms: Series };
  readonly load: {
    readonly cold_ms: Series;
    readonly cached_ms: Series;
    readonly cached_first_answer_ms: Series;
    readonly process_ms: Series;
    readonly llama_ms: Series;
  };
  readonly memory: {
    readonly weights: number;
    readonly live_kv: number;
    /** A process that loads, splices ten documents and answers. */
    readonly spliced: number;
    /** The part that Node with the libraries took before a model was loaded. */
    readonly libraries: number;
    /** The part mapped from files, which other processes share: weights, blocks, programs. */
    readonly mapped: number;
    /** The same by full prefill. */
    readonly full: number;
    /** node-llama-cpp with a context of the prompt's size. */
    readonly llama: number;
  };
  readonly accuracy: readonly Accuracy[];
  /** Whether kvsplice's full prefill and node-llama-cpp chose the same first token, by workload. */
  readonly agreement: { readonly same: number; readonly of: number };
};

/** Time to the first token of one workload, for each way. */
export type FirstToken = {
  readonly name: string;
  readonly documents: number;
  readonly tokens: number;
  readonly fresh: number;
  readonly spliced_ms: Series;
  readonly fetch_ms: Series;
  readonly splice_ms: Series;
  readonly full_ms: Series;
  /** node-llama-cpp with flash attention, nothing cached. */
  readonly llama_ms: Series;
  /** The same without flash attention, if measured. */
  readonly llama_plain_ms?: Series;
};

/** One result of `kvsplice eval --json`. */
export type Accuracy = {
  readonly file: string;
  readonly precision: string;
  readonly activations: string;
  /** Seed of the documents' order. */
  readonly seed: number;
  readonly mode: string;
  readonly link_tokens: number;
  readonly questions: number;
  readonly exact_match: number;
  readonly contains: number;
  readonly f1: number;
};
