import { expect, test } from "vitest";
import { loadModel, loadTokenizer } from "../../engine/index.js";

test("the tokenizer loaded alone matches the model's: tokens, template, card and context", async () => {
  const [language, model] = await Promise.all([loadTokenizer(), loadModel()]);
  const text = "Überprüfe <|im_start|> 12 345 Fälle.\n";
  expect(language.tokenizer.encode(text)).toEqual(model.tokenizer.encode(text));
  expect(language.tokenizer.encode(text, { control: true })).toEqual(model.tokenizer.encode(text, { control: true }));
  expect(language.chat.frame("user", undefined)).toEqual(model.chat.frame("user", undefined));
  expect([language.contextLength, language.card]).toEqual([model.contextLength, model.card]);
  await model.close();
});

test("a path that is not a GGUF file is an error that says so", async () => {
  await expect(loadTokenizer({ path: "package.json" })).rejects.toMatchObject({
    code: "bad_model",
    message: expect.stringContaining("package.json is not a GGUF file"),
  });
});
