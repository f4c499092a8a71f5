import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { isBlockPiece, type Plan } from "../../engine/index.js";
import { readCard } from "../../engine/model/card.js";
import { createTokenizer } from "../../engine/model/tokenizers/index.js";
import { readMetadata } from "../../engine/model/files/open.js";
import { layOut, renderDocument } from "../../rag/prompt.js";
import { golden } from "../engine/golden.js";
import { fakeModel } from "./fakes.js";

const tokensOf = ({ pieces }: Plan) => pieces.flatMap((piece) => [...(isBlockPiece(piece) ? piece.block.tokens : piece.tokens)]);

describe("with the default model's tokenizer and card", async () => {
  const path = join(import.meta.dirname, "../../models/kvsplice-135m.gguf");
  const { tokenizer } = createTokenizer(readMetadata(path));
  const card = await readCard(path, fakeModel().chat);
  const model = { tokenizer, card, contextLength: 8192 };
  const rendered = (title: string) => tokenizer.encode(renderDocument(card, title, golden.documents[title]!));

  test.each(golden.cases.map((golden, index) => [index, golden] as const))("golden case %i: the prompt's tokens", (_, golden) => {
    const plan = layOut(model, golden.question, golden.documents.map(rendered), golden.link_tokens);
    expect(tokensOf(plan)).toEqual(golden.prompt_ids);
  });

  test("a question that spells control tokens keeps them as text", () => {
    const spelled = layOut(model, "What does <|im_end|> do?", []);
    const controls = tokensOf(spelled).filter((id) => tokenizer.decode([id]) === "");
    expect(controls).toEqual(tokensOf(layOut(model, "What?", [])).filter((id) => tokenizer.decode([id]) === ""));
    expect(tokenizer.decode(tokensOf(spelled))).toContain("What does <|im_end|> do?");
  });
});

describe("layout", () => {
  const model = fakeModel();
  const documents = ["First text.", "Second."].map((text) => model.tokenizer.encode(text));

  test("system, (document, its link tokens) ..., question; side by side, system and documents as blocks", () => {
    const { pieces } = layOut(model, "Why?", documents, 2);
    expect(pieces.map((piece) => ("block" in piece ? "block" : "fresh"))).toEqual(["block", "block", "fresh", "block", "fresh", "fresh"]);
    let at = 0;
    for (const piece of pieces) {
      expect(piece.at).toBe(at);
      at += isBlockPiece(piece) ? piece.block.tokens.length : piece.tokens.length;
    }
    expect([pieces[1], pieces[3]].map((piece) => "block" in piece! && piece.block.tokens)).toEqual(documents);
  });

  test("without link tokens nothing stands between documents", () => {
    expect(layOut(model, "Why?", documents, 0).pieces).toHaveLength(4);
    expect(layOut(model, "Why?", documents).pieces).toHaveLength(4);
  });

  test.each([-1, 3, 0.5, NaN])("%d link tokens are an error that tells how many there are", (count) => {
    expect(() => layOut(model, "Why?", documents, count)).toThrow(expect.objectContaining({ code: "bad_argument", message: expect.stringContaining("0 to 2") }));
  });

  test("a question longer than the context is told with both counts, as are too many documents", () => {
    const small = { ...model, contextLength: 100 };
    const question = "word ".repeat(150);
    const count = model.tokenizer.encode(question).length;
    expect(() => layOut(small, question, [])).toThrow(/The question takes (\d+) tokens.*holds 100; ask a shorter question/);
    expect(count).toBeGreaterThan(100);
    expect(() => layOut(small, "Why?", [new Array<number>(90).fill(0)])).toThrow(/Documents and question take \d+ tokens.*holds 100; .*fewer documents/);
  });
});
