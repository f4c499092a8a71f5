import { expect, test } from "vitest";
import { endTokensOf } from "../../../engine/model/end-tokens.js";

const control = (...texts: string[]) => new Map(texts.map((text, id) => [id, text]));

test("an answer ends at each token that the file names, individually or as a list", () => {
  expect([
    ...endTokensOf(
      { "tokenizer.ggml.eos_token_id": 7, "tokenizer.ggml.eot_token_id": 8n, "tokenizer.ggml.eos_token_ids": [7, 9] },
      control(),
    ),
  ]).toEqual([7, 8, 9]);
});

test("an answer also ends at known control tokens that the file does not name", () => {
  expect([...endTokensOf({ "tokenizer.ggml.eos_token_id": 0 }, control("<|endoftext|>", "<|im_start|>", "<|im_end|>"))]).toEqual([0, 2]);
});

test("the end of a message does not end the answer if answers have separate end tokens", () => {
  const texts = control("<|end|>", "<|return|>", "<|call|>");
  expect([...endTokensOf({ "tokenizer.ggml.eos_token_id": 1 }, texts)].sort()).toEqual([1, 2]);
  expect([...endTokensOf({}, control("<|end|>"))]).toEqual([0]);
});
