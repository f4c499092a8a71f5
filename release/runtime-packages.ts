/**
 * ONNX Runtime as packages that install without a script and without a network. `@kvsplice/onnxruntime` has the JavaScript of
 * onnxruntime-node, unchanged except for the line that loads the binary, and one package per platform has the binaries. npm,
 * pnpm and Yarn choose the right one by `os`, `cpu` and `libc`.
 *
 * onnxruntime-node contains the binaries of all platforms (about 290 MB), and on Linux x64 its install script downloads
 * another 300 to 500 MB for CUDA, which kvsplice never loads.
 */
import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { writeManifest } from "./manifest.js";

const SCOPE = "@kvsplice/onnxruntime";

const LICENSE = `MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`;

/** The line of onnxruntime-node that loads its binary, and its replacement. */
const LOADS_BINARY = "require(`../bin/napi-v6/${process.platform}/${process.arch}/onnxruntime_binding.node`);";
const LOADS_PACKAGE = 'require("./platform").load();';

const PLATFORM = (available: readonly string[]) => `"use strict";
/** Loads ONNX Runtime's binary for this platform from its package. */
exports.load = () => {
  const platform = \`\${process.platform}-\${process.arch}\`;
  const name = \`${SCOPE}-\${platform}\`;
  try {
    return require(name);
  } catch (cause) {
    const available = ${JSON.stringify(available)};
    const advice = available.includes(platform)
      ? \`The package \${name} did not load (\${cause.message.split("\\n")[0]}). Install again without --omit=optional or --no-optional. On Linux, glibc 2.28 or newer is required, which Alpine does not have.\`
      : \`There is no binary for \${platform}. ONNX Runtime supports \${available.join(", ")}.\`;
    throw new Error(\`ONNX Runtime cannot run here. \${advice}\`, { cause });
  }
};
`;

/** The binding uses the first name of a library; the second is a copy of the same file. */
const COPIES = /^libonnxruntime\.\d+\.\d+\.\d+\.dylib$/;

/**
 * Writes the packages' folders into `target`.
 * @param source the folder of onnxruntime-node
 * @@returns the folders, and the dependency that replaces onnxruntime-node in a published package
 */
export async function writeRuntimePackages(source: string, target: string): Promise<{ folders: string[]; dependency: string }> {
  const { version, dependencies } = JSON.parse(await readFile(join(source, "package.json"), "utf8")) as {
    version: string;
    dependencies: Record<string, string>;
  };
  const shared = { version, license: "MIT", homepage: "https://onnxruntime.ai" };
  const binaries = join(source, "bin", "napi-v6");
  const folders: string[] = [];
  const platforms: string[] = [];
  for (const os of (await readdir(binaries)).sort()) {
    for (const cpu of (await readdir(join(binaries, os))).sort()) {
      const platform = `${os}-${cpu}`;
      const folder = join(target, `onnxruntime-${platform}`);
      await cp(join(binaries, os, cpu), folder, { recursive: true, filter: (path) => !COPIES.test(path.split(/[\\/]/).at(-1)!) });
      await writeManifest(folder, {
        name: `${SCOPE}-${platform}`,
        description: `ONNX Runtime ${version} for ${platform}, CPU: the binaries of onnxruntime-node.`,
        ...shared,
        main: "onnxruntime_binding.node",
        os: [os],
        cpu: [cpu],
        ...(os === "linux" && { libc: ["glibc"] }),
      });
      await writeFile(join(folder, "LICENSE"), LICENSE);
      platforms.push(platform);
      folders.push(folder);
    }
  }

  const folder = join(target, "onnxruntime");
  await mkdir(folder, { recursive: true });
  await cp(join(source, "dist"), join(folder, "dist"), { recursive: true, filter: (path) => !path.endsWith(".map") });
  const binding = join(folder, "dist", "binding.js");
  const code = await readFile(binding, "utf8");
  if (code.split(LOADS_BINARY).length !== 2)
    throw new Error(`onnxruntime-node ${version} loads its binary in a different way. See ${binding}.`);
  await writeFile(binding, code.replace(LOADS_BINARY, LOADS_PACKAGE));
  await writeFile(join(folder, "dist", "platform.js"), PLATFORM(platforms));
  await writeManifest(folder, {
    name: SCOPE,
    description: "onnxruntime-node without an install script: the binaries of each platform are a separate package.",
    ...shared,
    main: "dist/index.js",
    types: "dist/index.d.ts",
    dependencies: { "onnxruntime-common": dependencies["onnxruntime-common"] },
    optionalDependencies: Object.fromEntries(platforms.map((platform) => [`${SCOPE}-${platform}`, version])),
  });
  await writeFile(join(folder, "LICENSE"), LICENSE);
  return { folders: [...folders, folder], dependency: `npm:${SCOPE}@${version}` };
}
