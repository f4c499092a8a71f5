import { KvspliceError } from "../../../plan/index.js";
import type { Adapter } from "../../model/adapter/index.js";
import type { ModelSpec } from "../../model/spec.js";
import type { Encoding } from "../cpu/encoding.js";

/** What a device is to compute. */
export type Wanted = { readonly spec: ModelSpec; readonly adapters: readonly Adapter[]; readonly encoding: Encoding };

/** What the device's graph lacks, in a word or two; undefined if it supports everything. */
function lackOf({ spec, adapters, encoding }: Wanted): string | undefined {
  if (encoding !== "exact") return `the encoding ${encoding}`;
  if (adapters.length > 0) return "adapters";
  if (spec.layers.some(({ feedForward }) => feedForward.kind === "experts")) return "experts";
  if (spec.layers.some(({ attention }) => attention.sinks !== undefined)) return "attention sinks";
  return undefined;
}

/** @throws KvspliceError `bad_argument` if the device's graph does not support all of it */
export function mustHave(wanted: Wanted): void {
  const lack = lackOf(wanted);
  if (lack === undefined) return;
  throw new KvspliceError("bad_argument", `Devices cannot compute ${lack}, which ${wanted.spec.name} needs here. Use --device cpu.`);
}
