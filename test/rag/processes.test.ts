import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

import { expect, onTestFinished, test } from "vitest";

import { openDiskStore } from "../../engine/index.js";
import { openCorpus } from "../../rag/index.js";
import { fakeEmbedder, fakeModel } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

const PROGRAM = join(import.meta.dirname, "../support/rag/precompute-process.ts");
const FILES = 60;
const KILLS = 5;

async function setUp() {
  const root = await temporaryFolder();
  const [dir, docs] = [join(root, "store"), join(root, "docs")];
  await mkdir(docs);
  for (let file = 0; file < FILES; file++) {
    const lines = Array.from({ length: 3 }, (_, line) => JSON.stringify({ title: `File ${file}`, text: `Text ${file} ${line} of many.` }));
    await writeFile(join(docs, `${file}.jsonl`), lines.join("\n"));
  }
  const blocks = openDiskStore(join(dir, "blocks"));
  const stored = async () => {
    let count = 0;
    for await (const _ of blocks.keys()) count++;
    return count;
  };
  return {
    docs,
    blocks,
    stored,
    dir,
    run: () => spawn(process.execPath, ["--import", "tsx", PROGRAM, dir, docs], { stdio: ["ignore", "pipe", "inherit"] }),
  };
}

/** Checks that another run finds nothing to do, and every chunk's block in the store. */
async function expectComplete({ dir, docs, blocks, stored }: Awaited<ReturnType<typeof setUp>>): Promise<void> {
  const model = fakeModel();
  const corpus = await openCorpus(dir, { model, store: blocks, embedder: fakeEmbedder() });
  onTestFinished(() => corpus.close());
  expect(await corpus.precompute([docs])).toMatchObject({
    files: FILES,
    chunks: 3 * FILES,
    unchanged: FILES,
    encoded: 0,
    removed: 0,
    problems: [],
  });
  expect(await stored()).toBe(3 * FILES);
  const [best] = await corpus.retrieve("Text 17 2", { topK: 1 });
  expect(await blocks.get(model.keyOf({ tokens: best!.tokens }))).toBeDefined();
}

const begun = (child: ChildProcess) => once(child.stdout!, "data");

test("killing a run at any moment loses nothing stored, and the next run completes the corpus", async () => {
  const setting = await setUp();
  let before = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const child = setting.run();
    const ended = once(child, "exit");
    await Promise.race([begun(child), ended]);
    await setTimeout(Math.random() * 120);
    child.kill("SIGKILL");
    await ended;
    const now = await setting.stored();
    expect(now).toBeGreaterThanOrEqual(before);
    before = now;
  }
  const [code] = await once(setting.run(), "exit");
  expect(code).toBe(0);
  await expectComplete(setting);
});

test("two processes that precompute the same files concurrently leave a complete corpus", async () => {
  const setting = await setUp();
  const codes = await Promise.all([setting.run(), setting.run()].map((child) => once(child, "exit").then(([code]) => code)));
  expect(codes).toEqual([0, 0]);
  await expectComplete(setting);
});
