/**
 * How the KV of blocks is computed: `exact`, like answers; or `w8a8`, with weights and activations in 8 bits, several
 * times faster if the processor can multiply bytes. Answers are not affected.
 */
export type Encoding = "exact" | "w8a8";

/** All of them, with the default first. */
export const ENCODINGS: readonly Encoding[] = ["exact", "w8a8"];

/** What `loadModel` uses by default. */
export const DEFAULT_ENCODING: Encoding = "exact";
