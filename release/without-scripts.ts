/**
 * Dependencies with an install script, as packages without one. Package managers that run no scripts warn about each, and
 * pnpm 12 fails. None of the scripts is needed: they build what a package of binaries already contains, or print a message.
 *
 * Packages that depend on such a package are packed too, because only their own package.json can name the replacement.
 */
import { cp, readFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { own, ROOT, writeManifest } from "./manifest.js";

type Dependencies = Readonly<Record<string, string>>;
type Locked = {
  readonly version: string;
  readonly dev?: true;
  readonly hasInstallScript?: true;
  readonly dependencies?: Dependencies;
  readonly optionalDependencies?: Dependencies;
};

/** ONNX Runtime has its own packages, and optional peers are only installed on request. */
const LEFT = ["onnxruntime-node", ...Object.keys(own.optionalDependencies)];

/** Writes the packages' folders into `target`. @@returns the folders, and the dependencies of a published package on them */
export async function writePackagesWithoutScripts(target: string): Promise<{ folders: string[]; dependencies: Record<string, string> }> {
  const { packages } = JSON.parse(await readFile(join(ROOT, "package-lock.json"), "utf8")) as { packages: Record<string, Locked> };
  const all = Object.entries(packages).flatMap(([path, locked]) => {
    const name = path.split("node_modules/").at(-1)!;
    const isLeft = LEFT.some((left) => name === left || path.startsWith(`node_modules/${left}/`));
    return path === "" || locked.dev || isLeft ? [] : [{ path, name, ...locked }];
  });
  const chosen = new Map(all.filter(({ hasInstallScript }) => hasInstallScript).map((each) => [each.name, each]));
  for (let before = -1; before !== chosen.size; ) {
    before = chosen.size;
    for (const each of all) {
      if (Object.keys({ ...each.dependencies, ...each.optionalDependencies }).some((name) => chosen.has(name))) chosen.set(each.name, each);
    }
  }
  const aliasOf = ({ name, version }: { name: string; version: string }) => `npm:@kvsplice/${name}@${version}`;
  const folders: string[] = [];
  for (const { name, path } of chosen.values()) {
    if (name.includes("/") || path !== `node_modules/${name}`)
      throw new Error(`${path} cannot be packed: only packages without a scope can.`);
    const source = join(ROOT, path);
    const folder = join(target, name);
    await cp(source, folder, {
      recursive: true,
      filter: (file) => !["binding.gyp", "node_modules", "build"].includes(basename(file)) || file === source,
    });
    const {
      scripts: _,
      devDependencies: __,
      ...manifest
    } = JSON.parse(await readFile(join(source, "package.json"), "utf8")) as Record<string, unknown>;
    const renamed = (dependencies: Dependencies = {}) =>
      Object.fromEntries(
        Object.entries(dependencies).map(([key, range]) => {
          const other = chosen.get(key);
          // node-gyp-build finds binaries by the name of the package that loads them.
          return other ? [key, aliasOf(other)] : [key.replace(`@${name}/${name}-`, `@kvsplice/${name}-`), binaryOf(name, key, range)];
        }),
      );
    await writeManifest(folder, {
      ...manifest,
      name: `@kvsplice/${name}`,
      gypfile: false,
      dependencies: renamed(manifest.dependencies as Dependencies),
      optionalDependencies: renamed(manifest.optionalDependencies as Dependencies),
    });
    folders.push(folder);
  }
  const named = [...chosen.values()].filter(({ name }) => name in own.dependencies);
  return { folders, dependencies: Object.fromEntries(named.map((each) => [each.name, aliasOf(each)])) };
}

function binaryOf(name: string, key: string, range: string): string {
  return key.startsWith(`@${name}/${name}-`) ? `npm:${key}@${range}` : range;
}
