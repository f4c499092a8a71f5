import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { openBlockStore } from "../../engine/index.js";
import { allocateBlock, type Block } from "../../engine/kv/block.js";
import { openCorpus } from "../../rag/index.js";
import { fakeEmbedder, fakeModel } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Some blocks are being written to disk at any time; bench/precompute-memory.ts measures the bytes. */
const UNDER_WAY = 20;

test("precompute keeps a bounded number of blocks and vectors in memory, however many chunks there are", async () => {
  const folder = await temporaryFolder();
  const docs = join(folder, "docs");
  await mkdir(docs);
  const rows = (file: number) =>
    Array.from({ length: 20 }, (_, row) => JSON.stringify({ title: `T${file}`, text: `Text ${file} ${row} of many.` })).join("\n");
  for (let file = 0; file < 10; file++) await writeFile(join(docs, `${file}.jsonl`), rows(file));

  /** Weak references to everything that was made. */
  const made: { blocks: WeakRef<Block>[]; vectors: WeakRef<Float32Array>[] } = { blocks: [], vectors: [] };
  const model = fakeModel();
  const encoding = {
    ...model,
    encode: async ({ tokens }: { readonly tokens: readonly number[] }) => {
      const block = allocateBlock([{ heads: 1, headSize: 1 }], tokens.length);
      made.blocks.push(new WeakRef(block));
      return block;
    },
  };
  const embedder = fakeEmbedder();
  const embedding: typeof embedder = {
    ...embedder,
    embed: async (texts, options) => {
      const vectors = await embedder.embed(texts, options);
      for (const vector of vectors) made.vectors.push(new WeakRef(vector));
      return vectors;
    },
  };
  const store = openBlockStore({ disk: { path: join(folder, "kv") } });
  const corpus = await openCorpus(join(folder, "kv"), { model: encoding, store, embedder: embedding, create: true });

  const living = (refs: readonly WeakRef<object>[]) => refs.filter((ref) => ref.deref() !== undefined).length;
  const held: { blocks: number; vectors: number }[] = [];
  for (let from = 0; from < 10; from += 5) {
    await corpus.precompute(
      Array.from({ length: 5 }, (_, i) => join(docs, `${from + i}.jsonl`)),
      {
        onProgress() {
          if (made.blocks.length % 50 !== 0 || held.length === made.blocks.length / 50) return;
          collectGarbage();
          held.push({ blocks: living(made.blocks), vectors: living(made.vectors) });
        },
      },
    );
  }
  expect([made.blocks.length, made.vectors.length]).toEqual([200, 200]);
  expect(held).toHaveLength(4);
  for (const { blocks, vectors } of held) {
    expect(blocks).toBeLessThanOrEqual(UNDER_WAY);
    expect(vectors).toBeLessThanOrEqual(2 * UNDER_WAY); // a file's chunks are embedded together
  }
  await corpus.close();
  await store.close();
});
