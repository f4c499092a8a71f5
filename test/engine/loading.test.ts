import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { builtGraphs, loadModel } from "../../engine/index.js";
import { tinyGguf } from "../support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS } from "../support/engine/models/tiny-models.js";

const ROOT = join(import.meta.dirname, "../..");
const PROGRAM = join(import.meta.dirname, "../support/engine/loading-process.ts");

describe("loading a model", () => {
  let folder: string;
  let path: string;
  let cacheDir: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "kvsplice-loading-"));
    [path, cacheDir] = [join(folder, "tiny.gguf"), join(folder, "cache")];
    writeFileSync(path, tinyGguf(TINY_MODELS["llama"]!));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const load = async () => {
    const steps: string[] = [];
    const model = await loadModel({ path, cacheDir, onProgress: ({ step }) => void (steps.at(-1) !== step && steps.push(step)) });
    const logits = await model.logits({ pieces: [{ tokens: PROMPT, at: 0 }] });
    await model.close();
    return { steps, logits };
  };

  const start = (...more: string[]) =>
    spawn(process.execPath, ["--import", "tsx", PROGRAM, path, cacheDir, ...more], { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  const printed = async (child: ChildProcess, until: string) => {
    let text = "";
    child.stdout!.on("data", (part) => (text += String(part)));
    while (!text.includes(until)) await once(child.stdout!, "data");
    return text.trim().split("\n");
  };

  test("reads its file and builds its graphs once", async () => {
    const first = await load();
    expect(first.steps).toEqual(["hash", "build"]);
    expect(await load()).toEqual({ steps: [], logits: first.logits });
  });

  test("reads its file again if its time has changed, and builds again for other content", async () => {
    await load();
    utimesSync(path, 1, 1);
    expect((await load()).steps).toEqual(["hash"]);
    const bytes = readFileSync(path);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(path, bytes);
    expect((await load()).steps).toEqual(["hash", "build"]);
  });

  test("waits for a process that is building the same model, and takes over if that process is killed", async () => {
    const building = start("stop");
    expect(await printed(building, "half")).toEqual(["hash", "build", "half"]);
    const waiting = start();
    expect(await printed(waiting, "wait")).toEqual(["wait"]);
    expect(readdirSync(join(cacheDir, "graphs")).filter((name) => name.includes(".draft-"))).toHaveLength(1);
    building.kill("SIGKILL");
    await once(waiting, "exit");
    expect(waiting.exitCode).toBe(0);
    expect(readdirSync(join(cacheDir, "graphs"))).toHaveLength(1); // no draft, no lock
    expect((await load()).steps).toEqual([]);
  });

  test("removes what killed processes left of other models, but not what a process is building", async () => {
    const graphs = join(cacheDir, "graphs");
    const other = `${"a".repeat(64)}-onnxruntime-1.0.0`;
    const busy = `${"b".repeat(64)}-onnxruntime-1.0.0`;
    for (const name of [`${other}.draft-x1y2z3`, `${busy}.draft-x1y2z3`]) mkdirSync(join(graphs, name), { recursive: true });
    writeFileSync(join(graphs, `${busy}.lock`), `${process.pid} ${hostname()} x`); // as a running process holds it
    await load();
    expect(readdirSync(graphs).filter((name) => name.includes(".draft-"))).toEqual([`${busy}.draft-x1y2z3`]);
    expect(builtGraphs(cacheDir)).toHaveLength(1);
  });

  test("built graphs are listed by the model's name, and verified as a whole", async () => {
    await load();
    const [graphs] = builtGraphs(cacheDir);
    expect(graphs!.model).toBe("tiny");
    expect(await graphs!.isSound()).toBe(true);
    const weights = readFileSync(join(graphs!.path, "weights.bin"));
    weights[weights.length >> 1]! ^= 1;
    writeFileSync(join(graphs!.path, "weights.bin"), weights);
    expect(await graphs!.isSound()).toBe(false);
  });

  test.each(["", " "])("refuses KVSPLICE_CACHE_DIR=%j, which would be the current folder", async (value) => {
    const before = process.env["KVSPLICE_CACHE_DIR"];
    process.env["KVSPLICE_CACHE_DIR"] = value;
    try {
      await expect(loadModel({ path })).rejects.toMatchObject({
        code: "bad_argument",
        message: expect.stringMatching(/^KVSPLICE_CACHE_DIR is set but empty\./),
      });
    } finally {
      if (before === undefined) delete process.env["KVSPLICE_CACHE_DIR"];
      else process.env["KVSPLICE_CACHE_DIR"] = before;
    }
  });

  test.skipIf(process.platform !== "linux")("fails at once if the cache folder cannot be created", async () => {
    await expect(loadModel({ path, cacheDir: "/proc/nope" })).rejects.toMatchObject({
      code: "bad_store",
      message: "The folder /proc/nope cannot be created (ENOENT). Set KVSPLICE_CACHE_DIR to another folder.",
    });
    await expect(loadModel({ path, cacheDir: join(path, "cache") })).rejects.toMatchObject({
      code: "bad_store",
      message: `${path} must be a folder, but it is something else. Set KVSPLICE_CACHE_DIR to another folder.`,
    });
  });
});
