import { KvspliceError } from "../../../plan/index.js";
import type { Adapter } from "../../model/adapter/index.js";
import type { ModelSpec } from "../../model/spec.js";
import { BYTE_GROUP } from "../../model/tensors/index.js";
import type { Activations } from "../cpu/activations.js";
import type { Encoding } from "../cpu/encoding.js";

/** What a device is to compute. */
export type Wanted = {
  readonly spec: ModelSpec;
  readonly adapters: readonly Adapter[];
  readonly encoding: Encoding;
  readonly activations: Activations;
};

/** What the device's graph lacks, in a word or two; undefined if it supports everything. */
function lackOf({ spec, adapters, encoding, activations }: Wanted): string | undefined {
  if (encoding !== "exact") return `the encoding ${encoding}`;
  if (adapters.length > 0 && activations === "float32") return "adapters with float32 activations";
  if (adapters.length > 0 && !canBeMerged(spec)) return "adapters of layers whose columns are not a multiple of 32";
  if (spec.layers.some(({ feedForward }) => feedForward.kind === "experts")) return "experts";
  if (spec.layers.some(({ attention }) => attention.sinks !== undefined)) return "attention sinks";
  return undefined;
}

/** Whether all linear layers have weights of 8 bits on a device (`byteLinear`). */
function canBeMerged({ hidden, layers }: ModelSpec): boolean {
  const columns = layers.flatMap(({ attention, feedForward }) => [attention.heads * attention.headSize, feedForward.width]);
  return [hidden, ...columns].every((count) => count % BYTE_GROUP === 0);
}

/** @throws KvspliceError `bad_argument` if the device's graph does not support all of it */
export function mustHave(wanted: Wanted): void {
  const lack = lackOf(wanted);
  if (lack === undefined) return;
  throw new KvspliceError("bad_argument", `Devices cannot compute ${lack}, which ${wanted.spec.name} needs here. Use --device cpu.`);
}
