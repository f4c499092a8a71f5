/**
 * Builds the packages of a release, as folders and as .tgz files for `npm publish`:
 *
 *     npm run release            into release/packages
 *     npm run release -- FOLDER
 */
import { execFile } from "node:child_process";
import { cp, mkdir, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { globSync } from "tinyglobby";

import { writeDataPackages } from "./data-packages.js";
import { own, ROOT, writeManifest } from "./manifest.js";
import { writeRuntimePackages } from "./runtime-packages.js";
import { writePackagesWithoutScripts } from "./without-scripts.js";

/** Fields of package.json that are only for building a clone. */
const OF_A_CLONE = ["private", "scripts", "devDependencies", "optionalDependencies", "overrides", "allowScripts"];

export type Packed = { readonly folder: string; readonly tgz: string };

/** Writes all packages of this clone, which must have been built, into `target`, in the order of publishing. */
export async function pack(target: string): Promise<Packed[]> {
  await rm(target, { recursive: true, force: true });
  const runtime = await writeRuntimePackages(join(ROOT, "node_modules", "onnxruntime-node"), target);
  const data = await writeDataPackages(join(ROOT, "models"), target);
  const silent = await writePackagesWithoutScripts(target);
  const dependencies = { ...silent.dependencies, ...data.dependencies, "onnxruntime-node": runtime.dependency };
  const folders = [...runtime.folders, ...data.folders, ...silent.folders, await writeKvsplice(join(target, "kvsplice"), dependencies)];
  const packed: Packed[] = [];
  for (const folder of folders) packed.push({ folder, tgz: await packFolder(folder, target) });
  return packed;
}

async function writeKvsplice(folder: string, dependencies: Readonly<Record<string, string>>): Promise<string> {
  const published = Object.entries(own).filter(([field]) => !OF_A_CLONE.includes(field));
  const files = globSync([...own.files, "!**/node_modules", "README.md", "LICENSE"], { cwd: ROOT, dot: true });
  await mkdir(folder, { recursive: true });
  for (const path of files) await cp(join(ROOT, path), join(folder, path));
  // These are large, or compiled on installation, and not everybody needs them, so they are only installed on request.
  const optional = Object.keys(own.optionalDependencies).map((name) => [name, { optional: true }]);
  await writeManifest(folder, {
    ...Object.fromEntries(published),
    dependencies: { ...own.dependencies, ...dependencies },
    peerDependencies: { ...own.peerDependencies, ...own.optionalDependencies },
    peerDependenciesMeta: { ...own.peerDependenciesMeta, ...Object.fromEntries(optional) },
  });
  return folder;
}

async function packFolder(folder: string, target: string): Promise<string> {
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  const { stdout } = await promisify(execFile)(npm, ["pack", folder, "--json", "--ignore-scripts", "--pack-destination", target], {
    cwd: target,
    maxBuffer: 2 ** 26,
    shell: process.platform === "win32",
  });
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];
  return join(target, filename.replace("@", "").replace("/", "-"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const target = resolve(process.argv[2] ?? join(ROOT, "release", "packages"));
  for (const { tgz } of await pack(target)) console.log(`${((await stat(tgz)).size / 1e6).toFixed(1).padStart(6)} MB  ${tgz}`);
}
