import { readFileSync } from "node:fs";
import { cpus } from "node:os";

/** The processor, with the instruction sets that decide which kernels run. */
export function processor(): { readonly name: string; readonly simd: readonly string[] } {
  const names: Readonly<Record<string, string>> = {
    avx2: "AVX2",
    avx512f: "AVX-512",
    avx512_vnni: "AVX-512 VNNI",
    avx_vnni: "AVX-VNNI",
    amx_int8: "AMX",
    asimd: "NEON",
    asimddp: "dot product",
  };
  let flags: string[] = [];
  try {
    flags = /^(?:flags|Features)\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? [];
  } catch {
    // this file exists only on Linux
  }
  return {
    name: cpus()[0]?.model.trim() ?? "an unknown processor",
    simd: Object.keys(names)
      .filter((flag) => flags.includes(flag))
      .map((flag) => names[flag]!),
  };
}
