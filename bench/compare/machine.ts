import { execFileSync } from "node:child_process";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { readFileSync } from "node:fs";

export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  /** Instruction sets that the peers' kernels choose by. */
  readonly simd: string;
  readonly memory_gib: number;
  readonly node: string;
  /** Over the last minute, before the run: what else was at work. */
  readonly load: number;
};

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    simd: simd(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    load: Math.round(10 * loadavg()[0]!) / 10,
  };
}

export function commitOf(folder: string): string {
  try {
    return execFileSync("git", ["-C", folder, "rev-parse", "--short", "HEAD"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}

function simd(): string {
  const names: Record<string, string> = { avx2: "AVX2", avx512f: "AVX-512", avx512_vnni: "AVX-512 VNNI", avx_vnni: "AVX-VNNI", amx_int8: "AMX", asimd: "NEON", asimddp: "dot product" };
  try {
    const flags = /^(?:flags|Features)\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? [];
    return Object.entries(names).flatMap(([flag, name]) => (flags.includes(flag) ? [name] : [])).join(", ");
  } catch {
    return "unknown";
  }
}

/** Most memory that this process ever held, in bytes. */
export function peakMemory(): number {
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
}
