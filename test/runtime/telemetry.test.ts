import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { globSync } from "tinyglobby";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { defaultCacheDir } from "../../engine/cache-dir.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const onPosix = process.platform !== "win32"; // on Windows, the library reports through ETW and writes no files

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kvsplice-telemetry-"));
  for (const name of ["home", "tmp"]) mkdirSync(join(folder, name));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Runs Node with separate folders except for built graphs, and without the CI variables, which would turn the library's telemetry off. */
function run(args: readonly string[], env: Record<string, string> = {}) {
  const own = {
    PATH: process.env["PATH"]!,
    HOME: join(folder, "home"),
    TMPDIR: join(folder, "tmp"),
    KVSPLICE_CACHE_DIR: defaultCacheDir(),
  };
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, env: { ...own, ...env }, encoding: "utf8" });
  return { status, stderr, files: globSync(["home/**", "tmp/**"], { cwd: folder, dot: true }) };
}

const EMBED = `const { loadEmbedder } = await import("./dist/rag/index.js"); await (await loadEmbedder()).close();`;
const IN_A_WORKER = `const { Worker } = await import("node:worker_threads");
  new Worker(${JSON.stringify(`import("${root}dist/rag/index.js").catch((error) => { console.error(error.message); process.exit(3); });`)}, { eval: true }).on("exit", (code) => process.exit(code));`;

describe.runIf(onPosix)("ONNX Runtime's telemetry", () => {
  test("is off in a command: the library leaves no file", () => {
    const store = join(folder, "store.kv");
    expect(run(["dist/cli/main.js", "precompute", "examples/corpus/chess.md", "--store", store])).toMatchObject({ status: 0, files: [] });
  });

  test("is off in a program that imports the library", () => {
    expect(run(["--input-type=module", "-e", EMBED])).toEqual({ status: 0, stderr: "", files: [] });
  });

  test("leaves files if it is turned on, so the tests above would see them", () => {
    const { status, files } = run(["--input-type=module", "-e", EMBED], { ORT_DISABLE_TELEMETRY: "0" });
    expect(status).toBe(0);
    expect(files.length).toBeGreaterThan(0);
  });

  test("cannot be turned off from a worker thread, so the library is not loaded there first", () => {
    expect(run(["--input-type=module", "-e", IN_A_WORKER])).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("ORT_DISABLE_TELEMETRY=1"),
      files: [],
    });
    expect(run(["--input-type=module", "-e", IN_A_WORKER], { ORT_DISABLE_TELEMETRY: "1" })).toMatchObject({ status: 0, files: [] });
  });
});
