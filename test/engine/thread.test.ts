import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Backend, Cache } from "../../engine/backend/backend.js";
import { CpuBackend, type CpuOptions } from "../../engine/backend/cpu/backend.js";
import { graphId } from "../../engine/backend/cpu/identity.js";
import { modelThread, ThreadBackend } from "../../engine/backend/thread/backend.js";
import { loadModel } from "../../engine/index.js";
import { readSpec } from "../../engine/model/arch/index.js";
import { openModelFile } from "../../engine/model/files/open.js";
import { tinyGguf } from "../support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS } from "../support/engine/models/tiny-models.js";

const folder = mkdtempSync(join(tmpdir(), "kvsplice-thread-"));
const path = join(folder, "tiny.gguf");
let options: Omit<CpuOptions, "onProgress">;
beforeAll(async () => {
  writeFileSync(path, tinyGguf(TINY_MODELS["llama"]!));
  const file = openModelFile(path);
  const spec = readSpec(file);
  options = {
    path,
    quantize: undefined,
    spec,
    id: graphId(await file.contentHash(), spec, "int8"),
    adapters: [],
    cacheDir: join(folder, "cache"),
    activations: "int8",
  };
  file.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

const positions = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
const ALL = PROMPT.length;

/** Everything a cache does: passes, blocks out of it and into another, truncation, and looking. */
async function used(backend: Backend) {
  const cache = backend.createCache();
  const first = backend.createCache();
  await first.reserve(ALL);
  const [none] = await backend.run([{ cache: first, tokens: PROMPT, positions: positions(0, ALL), logits: 0 }]);
  const block = await first.extract(2, 12, "int8");
  first.free();
  const at = Int32Array.from(positions(40, 10));
  await Promise.all([cache.splice(block, at, [[3, 5]]), cache.splice(block, Int32Array.from(positions(60, 10)))]);
  const spliced = cache.length;
  const question = { cache, tokens: PROMPT.slice(0, 6), positions: positions(80, 6), logits: 2 };
  const looks = await backend.look(question, [0, 0, 0, 0, 1, 1]);
  const [logits] = await backend.run([question]);
  const ran = cache.length;
  cache.truncate(spliced - 1);
  const [again] = await backend.run([{ ...question, visible: { counts: positions(1, 6), shared: 9 } }]);
  return {
    none,
    block,
    lengths: [spliced, ran, cache.length, backend.passTokens(ran)],
    looks,
    logits,
    again,
    end: await cache.extract(0, cache.length, "float32"),
  };
}

describe("a backend in a thread", () => {
  test("computes bit for bit the same as the processor's backend in this thread", async () => {
    const here = await CpuBackend.open(options);
    const there = await ThreadBackend.open(modelThread("tiny", undefined), options);
    expect(await used(there)).toEqual(await used(here));
    expect([there.form, there.mostSlots]).toEqual([here.form, here.mostSlots]);
    await Promise.all([here.close(), there.close()]);
  });

  test("takes several parts per pass once widened, each with its own logits", async () => {
    const backend = await ThreadBackend.open(modelThread("tiny", undefined), options);
    const caches = [1, 2, 3].map(() => backend.createCache());
    const part = (cache: Cache, i: number) => ({ cache, tokens: PROMPT.slice(i, i + 4), positions: positions(0, 4), logits: 1 });
    for (const cache of caches) await cache.reserve(100);
    backend.widen();
    while (backend.slots === 1) {
      await backend.run([part(caches[0]!, 0)]);
      caches[0]!.truncate(0);
      await setImmediate();
    }
    expect(backend.slots).toBe(backend.mostSlots);
    const together = await backend.run(caches.map(part));
    caches.forEach((cache) => cache.truncate(0));
    for (const [i, cache] of caches.entries()) expect((await backend.run([part(cache, i)]))[0]).toEqual(together[i]);
    await backend.close();
  });

  test("reports in one message what is wrong with a block, a cache or an adapter", async () => {
    const backend = await ThreadBackend.open(modelThread("tiny", undefined), options);
    const cache = backend.createCache();
    await expect(cache.reserve(1e9)).rejects.toMatchObject({ code: "too_long" });
    const foreign = { ...(await used(backend)).block, layers: [{ heads: 1, headSize: 4 }] };
    await expect(cache.splice(foreign, new Int32Array(foreign.tokens))).rejects.toThrow("does not fit the model");
    await backend.close();
    const thread = modelThread("tiny", undefined);
    const adapter = {
      name: "other.gguf",
      id: "a",
      where: "both" as const,
      scale: 1,
      rowOrder: "file" as const,
      pairs: new Map([["blk.9.attn_q.weight", { rank: 1, a: new Float32Array(1), b: new Float32Array(1), rows: 1, columns: 1 }]]),
    };
    await expect(ThreadBackend.open(thread, { ...options, adapters: [adapter] })).rejects.toMatchObject({
      code: "bad_model",
      message: expect.stringContaining("other.gguf"),
    });
    await thread.close();
  });

  test("whose thread has ended refuses every call, with the reason", async () => {
    const thread = modelThread("tiny", undefined);
    const backend = await ThreadBackend.open(thread, options);
    const cache = backend.createCache();
    const running = backend.run([{ cache, tokens: PROMPT, positions: positions(0, ALL), logits: 1 }]).catch((error: unknown) => error);
    await thread.close();
    const ended = {
      code: "closed",
      message: expect.stringMatching(/^The thread for the passes of tiny ended .* Start the program again\.$/),
    };
    await running; // its pass may have been whole before
    await expect(backend.run([{ cache, tokens: PROMPT, positions: positions(0, ALL), logits: 1 }])).rejects.toMatchObject(ended);
    await expect(cache.reserve(10)).rejects.toMatchObject(ended);
    expect(backend.failure).toMatchObject(ended);
    cache.truncate(0);
    cache.free();
    await backend.close();
  });
});

test.skipIf(process.platform === "win32")("during one pass, a server answers many times and a signal is handled", async () => {
  await using model = await loadModel();
  const server = createServer((_, response) => response.end("ok")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/healthz`;
  let signals = 0;
  process.once("SIGUSR2", () => signals++);
  let [answered, running] = [0, true];
  const tokens = model.tokenizer.encode("The ferry crosses the river. ".repeat(60)).slice(0, 256); // one pass
  const encoding = model.encode({ tokens }).finally(() => (running = false));
  process.kill(process.pid, "SIGUSR2");
  while (running) {
    await (await fetch(url)).text();
    if (running) answered++;
  }
  await encoding;
  expect(signals).toBe(1);
  // A thread blocked by the pass would answer only before and after it.
  expect(answered).toBeGreaterThan(5);
  server.close();
});

test("a process that exits during a pass keeps its exit code, and prints nothing", () => {
  const script = `import { loadModel } from "./dist/engine/index.js";
    const model = await loadModel();
    void model.encode({ tokens: Array(256).fill(5) });
    setTimeout(() => process.exit(3), 30); // one pass takes longer`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    encoding: "utf8",
  });
  expect({ status, stdout, stderr }).toEqual({ status: 3, stdout: "", stderr: "" });
});
