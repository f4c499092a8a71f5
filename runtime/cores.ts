import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { KvspliceError } from "../plan/index.js";

/** Limits the threads of a pass, in every command and program. */
const VARIABLE = "KVSPLICE_THREADS";

/**
 * The number of cores that this process may use: all of the machine's, or fewer if it is bound to some of them, if its
 * container's processor time is limited, or if `KVSPLICE_THREADS` is set. With more threads, the system would suspend some
 * in the middle of a pass.
 *
 * @param root folder of the system's files; a different one in tests
 * @throws KvspliceError `bad_argument` if the variable is not a positive whole number
 */
export function usableCores(root = "/"): number {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(coresOfGroup(root)), asked()));
}

function asked(): number {
  const value = process.env[VARIABLE] ?? "";
  if (value === "") return Infinity;
  if (!/^[1-9]\d*$/.test(value))
    throw new KvspliceError(
      "bad_argument",
      `${VARIABLE} is ${JSON.stringify(value)}; give a whole number of 1 or more, or unset it to use all cores.`,
    );
  return Number(value);
}

/** The limit from this process's control groups (cgroup version 2, or else 1); Infinity if there is none. */
function coresOfGroup(root: string): number {
  const lines = read(join(root, "proc/self/cgroup"))?.trim().split("\n") ?? [];
  const limits = lines.flatMap((line) => {
    const [, controllers = "", path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === "") return eachFolder(path).map((folder) => quotaV2(join(root, "sys/fs/cgroup", folder)));
    if (controllers.split(",").includes("cpu")) return eachFolder(path).map((folder) => quotaV1(join(root, "sys/fs/cgroup/cpu", folder)));
    return [];
  });
  return Math.min(Infinity, ...limits);
}

/** A group and its parents, each of which may set a limit. */
function eachFolder(path: string): string[] {
  return path === "/" || path === "." || path === "" ? ["/"] : [path, ...eachFolder(dirname(path))];
}

function quotaV2(folder: string): number {
  const [quota, period] = read(join(folder, "cpu.max"))?.trim().split(/\s+/) ?? [];
  return quota === undefined || quota === "max" ? Infinity : Number(quota) / Number(period);
}

function quotaV1(folder: string): number {
  const quota = Number(read(join(folder, "cpu.cfs_quota_us")) ?? -1);
  return quota > 0 ? quota / Number(read(join(folder, "cpu.cfs_period_us"))) : Infinity;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // this file does not exist on other systems
  }
}
