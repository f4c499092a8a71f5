import { createHash } from "node:crypto";
import type { ModelSpec } from "../../model/spec.js";
import type { Activations } from "./activations.js";
import type { Encoding } from "./encoding.js";

/** Raise it with every change to what the graph computes: blocks and cached graphs of another version are not used. */
export const GRAPH_VERSION = 5;

/** Identifies what a graph computes: the model's content, the options it was opened with, the graph's version, and the activations. */
export function graphId(contentHash: string, { variant }: ModelSpec, activations: Activations): string {
  return createHash("sha256").update(`${contentHash} ${variant} ${GRAPH_VERSION} ${activations}`).digest("hex");
}

/** Raise it with every change to what graphs that encode in 8 bits compute. */
const ENCODER_VERSION = 1;

/** Identifies the graphs that encode in 8 bits, for the model whose graphs have this `id`. */
export function encoderId(id: string): string {
  return createHash("sha256").update(`${id} w8a8 ${ENCODER_VERSION}`).digest("hex");
}

/** Identifies the arithmetic of the graphs, which is part of blocks' keys. */
export function arithmeticOf(activations: Activations, encoding: Encoding): string {
  const ofAnswers = `cpu ${GRAPH_VERSION} ${activations}`;
  return encoding === "exact" ? ofAnswers : `${ofAnswers} ${encoding} ${ENCODER_VERSION}`;
}
