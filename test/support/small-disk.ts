import { execFileSync } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";

/** Mounts a new file system of this size (in mount's notation), if this user may. The caller unmounts it. */
export function mountSmall(size: string): string | undefined {
  try {
    const at = execFileSync("mktemp", ["-d"], { encoding: "utf8" }).trim();
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", at], { stdio: "ignore" });
    return at;
  } catch {
    return undefined;
  }
}

/** Writes a file `filler` until the file system is full. */
export function fill(folder: string): void {
  const file = openSync(join(folder, "filler"), "w");
  try {
    for (;;) writeSync(file, Buffer.alloc(4096));
  } catch {
    closeSync(file);
  }
}
