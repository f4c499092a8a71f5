import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { own, ROOT } from "../../release/manifest.js";
import { writePackagesWithoutScripts } from "../../release/without-scripts.js";

type Manifest = {
  readonly name: string;
  readonly version: string;
  readonly scripts?: object;
  readonly gypfile: boolean;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
};

let target: string;
let written: Awaited<ReturnType<typeof writePackagesWithoutScripts>>;
beforeAll(async () => {
  target = mkdtempSync(join(tmpdir(), "kvsplice-packages-"));
  written = await writePackagesWithoutScripts(target);
});
afterAll(() => rmSync(target, { recursive: true }));

const manifestOf = (folder: string) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;

test("no package has a script or sources that npm and pnpm would build", () => {
  expect(written.folders.length).toBeGreaterThan(1);
  for (const folder of written.folders) {
    expect(manifestOf(folder)).toMatchObject({ name: `@kvsplice/${basename(folder)}`, gypfile: false });
    expect(manifestOf(folder).scripts).toBeUndefined();
    expect(existsSync(join(folder, "binding.gyp"))).toBe(false);
  }
});

test("packages that depend on one of them do so under its original name, at its version", () => {
  const packages = new Map(written.folders.map((folder) => [basename(folder), manifestOf(folder)]));
  const all = [...packages.values()].flatMap((each) => Object.entries({ ...each.dependencies, ...each.optionalDependencies }));
  for (const [name, range] of [...all, ...Object.entries({ ...own.dependencies, ...written.dependencies })]) {
    const other = packages.get(name);
    if (other) expect(range).toBe(`npm:@kvsplice/${name}@${other.version}`);
  }
});

test("no other published package has an install script", () => {
  type Locked = { readonly dev?: true; readonly hasInstallScript?: true };
  const { packages } = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as { packages: Record<string, Locked> };
  const scripted = Object.entries(packages).flatMap(([path, { dev, hasInstallScript }]) =>
    hasInstallScript && !dev ? [basename(path)] : [],
  );
  const packed = new Set([...written.folders.map((folder) => basename(folder)), "onnxruntime-node", "hnswlib-node"]);
  expect(scripted.filter((name) => !packed.has(name))).toEqual([]);
});

test("binaries are found by the name of the package that loads them", () => {
  const lmdb = manifestOf(join(target, "lmdb"));
  expect(lmdb.optionalDependencies["@kvsplice/lmdb-linux-x64"]).toBe(`npm:@lmdb/lmdb-linux-x64@${lmdb.version}`);
});
