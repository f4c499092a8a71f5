import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { loadModel, type Model } from "../../engine/index.js";
import { openCorpus } from "../../rag/index.js";
import { golden } from "../support/engine/golden.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

describe("with the default model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel();
  });
  afterAll(() => model.close());

  test("files give the golden prompt and its answer, and a second run costs nothing", async () => {
    const root = await temporaryFolder();
    const docs = join(root, "docs");
    await mkdir(docs);
    for (const [title, text] of Object.entries(golden.documents)) await writeFile(join(docs, `${title}.txt`), text);

    const corpus = await openCorpus(join(root, "store"), { model, create: true });
    try {
      const count = Object.keys(golden.documents).length;
      expect(await corpus.precompute([docs])).toMatchObject({ files: count, chunks: count, encoded: count, problems: [] });
      expect(await corpus.precompute([docs])).toMatchObject({ unchanged: count, encoded: 0 });

      for (const { question, documents, prompt_ids } of golden.cases.filter(
        ({ mode, link_tokens }) => mode === "blocked" && link_tokens === 0,
      )) {
        const sources = await corpus.retrieve(question, { topK: count });
        const ordered = documents.map((title) => sources.find((source) => source.title === title)!);
        const { pieces } = corpus.plan(question, ordered.reverse()); // best source first
        expect(pieces.flatMap((piece) => ("block" in piece ? piece.block.tokens : piece.tokens))).toEqual(prompt_ids);
      }

      const answer = await corpus.ask("Who was the first keeper of the lighthouse on Brenna Point?", { topK: 3 });
      expect(answer.sources[0]!.title).toBe("Lighthouse keepers");
      let text = "";
      for await (const token of answer) text += token.text;
      expect(text).toContain("Oda Halvorsen");
      const stats = await answer.stats;
      expect(stats.cached_tokens).toBe(answer.sources.reduce((sum, { tokens }) => sum + tokens.length, 0));
      expect(stats.encoded_tokens).toBe(model.tokenizer.encode(model.card.prompt.system, { control: true }).length);
      expect(stats.retrieve_ms).toBeGreaterThan(0);
    } finally {
      await corpus.close();
    }
  });
});
