/** A separate process that precomputes a folder: `DIR DOCS`. It prints "begun" when its first block is encoded, and problems. */
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

import { openDiskStore } from "../../../engine/index.js";
import { openCorpus } from "../../../rag/index.js";
import { fakeEmbedder, fakeModel } from "./fakes.js";

const [dir, docs] = process.argv.slice(2) as [string, string];
const ENCODING_MS = 5;

const model = fakeModel({
  async onEncode() {
    process.stdout.write("begun\n");
    await setTimeout(ENCODING_MS);
  },
});
const corpus = await openCorpus(dir, { model, store: openDiskStore(join(dir, "blocks")), embedder: fakeEmbedder(), create: true });
const { problems } = await corpus.precompute([docs]);
for (const { path, reason } of problems) console.log(`${path}: ${reason}`);
await corpus.close();
