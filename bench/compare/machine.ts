import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, loadavg, totalmem } from "node:os";
import { processor } from "../../cli/processor.js";

export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  /** Instruction sets by which the peers choose their kernels. */
  readonly simd: string;
  readonly memory_gib: number;
  readonly node: string;
  /** Load average of the last minute before the run, which shows other work. */
  readonly load: number;
};

export function describeMachine(): Machine {
  const { name, simd } = processor();
  return {
    cpu: name,
    cores: availableParallelism(),
    simd: simd.join(", "),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    load: Math.round(10 * loadavg()[0]!) / 10,
  };
}

export function commitOf(folder: string): string {
  try {
    return execFileSync("git", ["-C", folder, "rev-parse", "--short", "HEAD"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "unknown";
  }
}

/** Peak memory of this process, in bytes. */
export function peakMemory(): number {
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
}
