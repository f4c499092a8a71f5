import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { usableCores } from "../../runtime/index.js";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "kvsplice-cores-"));
  vi.stubEnv("KVSPLICE_THREADS", undefined); // set for the tests themselves
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

const machine = availableParallelism();

/** The system files of a machine, as the kernel writes them. */
function coresOf(files: Readonly<Record<string, string>>): number {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return usableCores(root);
}

test("are the machine's if there is no limit or nothing can be read", () => {
  expect(coresOf({})).toBe(machine);
  expect(coresOf({ "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n" })).toBe(machine);
});

test.each([
  ["100000 100000", 1],
  ["50000 100000", 1],
  [`${machine * 100_000 + 50_000} 100000`, machine],
])("a container of %s has %i", (limit, cores) => {
  expect(coresOf({ "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": `${limit}\n` })).toBe(cores);
});

test("a group is limited by its parents", () => {
  expect(
    coresOf({
      "proc/self/cgroup": "0::/system.slice/kvsplice.service\n",
      "sys/fs/cgroup/system.slice/cpu.max": "100000 100000\n",
      "sys/fs/cgroup/system.slice/kvsplice.service/cpu.max": "max 100000\n",
    }),
  ).toBe(1);
});

test("control groups version 1 are read too", () => {
  const group = "sys/fs/cgroup/cpu/docker/abc";
  expect(
    coresOf({
      "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
      [`${group}/cpu.cfs_quota_us`]: "100000\n",
      [`${group}/cpu.cfs_period_us`]: "100000\n",
    }),
  ).toBe(1);
  expect(coresOf({ [`${group}/cpu.cfs_quota_us`]: "-1\n" })).toBe(machine);
});

test("KVSPLICE_THREADS sets fewer, and an invalid number is refused", () => {
  vi.stubEnv("KVSPLICE_THREADS", "1");
  expect(coresOf({})).toBe(1);
  vi.stubEnv("KVSPLICE_THREADS", String(machine + 1));
  expect(coresOf({})).toBe(machine);
  vi.stubEnv("KVSPLICE_THREADS", "");
  expect(coresOf({})).toBe(machine);
  for (const value of ["0", "-1", "1.5", "all"]) {
    vi.stubEnv("KVSPLICE_THREADS", value);
    expect(() => coresOf({})).toThrow(/KVSPLICE_THREADS is ".*"; give a whole number of 1 or more/);
  }
});
