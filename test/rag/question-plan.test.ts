import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { isBlockPiece, type Plan } from "../../engine/index.js";
import { readCard } from "../../engine/model/card.js";
import { readMetadata } from "../../engine/model/files/open.js";
import { createTokenizer } from "../../engine/model/tokenizers/index.js";
import { layOut, renderDocument } from "../../rag/question-plan.js";
import { golden } from "../support/engine/golden.js";
import { fakeModel } from "../support/rag/fakes.js";

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

  test("control tokens spelled out in a question stay text", () => {
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

  test("without link tokens there is nothing between documents", () => {
    expect(layOut(model, "Why?", documents, 0).pieces).toHaveLength(4);
    expect(layOut(model, "Why?", documents).pieces).toHaveLength(4);
  });

  test("documents are encoded after the system text and the card's example, which is in no prompt", () => {
    const example = { title: "Other", text: "Elsewhere." };
    const withExample = { ...model, card: { ...model.card, example } };
    const [system, first] = layOut(withExample, "Why?", documents).pieces.filter(isBlockPiece);
    expect(system!.block.after).toBeUndefined();
    const rendered = model.tokenizer.encode(renderDocument(model.card, example.title, example.text));
    expect(first!.block.after).toEqual([...system!.block.tokens, ...rendered]);
    expect(tokensOf(layOut(withExample, "Why?", documents))).toEqual(tokensOf(layOut(model, "Why?", documents)));
    // A model trained on documents encoded by themselves gets them that way.
    const alone = { ...withExample, card: { ...withExample.card, behindSystem: false } };
    expect(layOut(alone, "Why?", documents).pieces.filter(isBlockPiece)[1]!.block.after).toBeUndefined();
  });

  test.each([-1, 3, 0.5, NaN])("%d link tokens are an error that says how many there are", (count) => {
    expect(() => layOut(model, "Why?", documents, count)).toThrow(
      expect.objectContaining({ code: "bad_argument", message: expect.stringContaining("0 to 2") }),
    );
  });

  test("a question longer than the context is reported with both counts, and so are too many documents", () => {
    const small = { ...model, contextLength: 100 };
    const question = "word ".repeat(150);
    const count = model.tokenizer.encode(question).length;
    expect(() => layOut(small, question, [])).toThrow(/The question takes (\d+) tokens.*holds 100; ask a shorter question/);
    expect(count).toBeGreaterThan(100);
    expect(() => layOut(small, "Why?", [new Array<number>(90).fill(0)])).toThrow(
      /Documents and question take \d+ tokens.*holds 100; .*fewer documents/,
    );
  });
});
