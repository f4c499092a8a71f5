import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { encodeMissing } from "../../cli/pml-blocks.js";
import { openBlockStore } from "../../engine/index.js";
import { numberedEncoder } from "../support/engine/numbered-blocks.js";

test("precomputed modules are pinned, including those that an answer had stored before", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-pins-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const store = openBlockStore({ disk: { path: folder } });
  const encoder = numberedEncoder();
  const sources = [{ tokens: [1] }, { tokens: [2] }];
  const { signal } = new AbortController();
  await encodeMissing(encoder, store, sources.slice(0, 1), { signal });
  await encodeMissing(encoder, store, sources, { signal, pinned: true });
  const pinned: boolean[] = [];
  for await (const info of store.tiers[0]!.infos()) pinned.push(info.pinned);
  await store.close();
  expect(pinned).toEqual([true, true]);
});
