/**
 * What each dependency takes on disk, with whatever no other dependency needs: the weight that leaving it out would save.
 *
 *     npx tsx release/sizes.ts
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { own, ROOT } from "./manifest.js";

type Locked = { readonly dependencies?: object; readonly optionalDependencies?: object };
const { packages } = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as { packages: Record<string, Locked> };

/** Where a package finds another: in its own node_modules, or in those further out. */
function resolved(name: string, from: string): string | undefined {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    const path = `${at === "" ? "" : `${at}/`}node_modules/${name}`;
    if (path in packages) return path;
    if (at === "") return undefined;
  }
}

/** All packages that these names lead to. */
function closure(names: readonly string[]): Set<string> {
  const found = new Set<string>();
  const visit = (name: string, from: string): void => {
    const path = resolved(name, from);
    if (path === undefined || found.has(path)) return;
    found.add(path);
    const { dependencies = {}, optionalDependencies = {} } = packages[path]!;
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) visit(next, path);
  };
  for (const name of names) visit(name, "");
  return found;
}

/** Bytes of a package's files, without the packages within it. */
function bytesOf(folder: string): number {
  if (!existsSync(folder)) return 0; // another platform's
  return readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
    if (entry.isDirectory()) return entry.name === "node_modules" ? sum : sum + bytesOf(join(folder, entry.name));
    return entry.isFile() ? sum + statSync(join(folder, entry.name)).size : sum;
  }, 0);
}

const names = Object.keys({ ...own.dependencies, ...own.optionalDependencies });
const sizes = names.map((name) => {
  const others = closure(names.filter((other) => other !== name));
  const alone = [...closure([name])].filter((path) => !others.has(path));
  return { name, packages: alone.length, bytes: alone.reduce((sum, path) => sum + bytesOf(join(ROOT, path)), 0) };
});
for (const { name, packages: count, bytes } of sizes.sort((a, b) => b.bytes - a.bytes)) {
  const optional = name in own.optionalDependencies ? ", on request" : "";
  console.log(`${(bytes / 1e6).toFixed(1).padStart(6)} MB  ${name} (${count} ${count === 1 ? "package" : "packages"}${optional})`);
}
