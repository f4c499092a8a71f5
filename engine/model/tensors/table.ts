import { KvspliceError } from "../../../plan/index.js";
import { IQ4_NL, MXFP4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 } from "./blocks-of-32.js";
import { IQ4_XS, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K } from "./blocks-of-256.js";
import type { Encoding } from "./encoding.js";
import { BF16, F16, F32 } from "./floats.js";

/** The tensor types that kvsplice can compute with, by llama.cpp's names. */
export const ENCODINGS = {
  F32,
  F16,
  BF16,
  Q8_0,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ4_NL,
  IQ4_XS,
  MXFP4,
} as const satisfies Record<string, Encoding>;

/** @throws KvspliceError `bad_model` for any other type */
export function encodingOf({ name, type }: { readonly name: string; readonly type: string }): Encoding {
  const known: Encoding | undefined = Object.hasOwn(ENCODINGS, type) ? ENCODINGS[type as keyof typeof ENCODINGS] : undefined;
  if (known) return known;
  throw new KvspliceError(
    "bad_model",
    `Tensor ${name} has type ${type}; kvsplice supports ${Object.keys(ENCODINGS).join(", ")}. Use a file of the model in one of these.`,
  );
}
