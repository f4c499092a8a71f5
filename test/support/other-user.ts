import { execFileSync } from "node:child_process";

/** The ids of another user and group, if this user is root and can act as them. 65534 is nobody on all Linux systems. */
export const OTHER_USER = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined;

/** Mounts a folder a second time, read-only, if this user may. The caller unmounts it. */
export function mountReadOnly(folder: string): string | undefined {
  try {
    const at = execFileSync("mktemp", ["-d"], { encoding: "utf8" }).trim();
    execFileSync("mount", ["--bind", folder, at], { stdio: "ignore" });
    execFileSync("mount", ["-o", "remount,ro,bind", at], { stdio: "ignore" });
    return at;
  } catch {
    return undefined;
  }
}
