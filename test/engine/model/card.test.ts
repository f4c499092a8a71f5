import { expect, test } from "vitest";
import { readCard } from "../../../engine/model/card.js";
import { createChatTemplate, plainChatTemplate } from "../../../engine/model/chat-template.js";

const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

test("a chat model without a card uses its template, asks for few words, puts an example first, and has the default link", async () => {
  const card = await readCard("nowhere.gguf", createChatTemplate({ source: CHATML, bos: "", eos: "<|im_end|>", addBos: false }));
  expect(card.prompt).toEqual({
    system: "<|im_start|>system\nYou answer questions from the given documents.<|im_end|>\n<|im_start|>user\nDocuments:\n\n",
    document: "Title: {title}\n{text}\n\n",
    question:
      "Answer the question from the documents. Give only the answer, in a few words.\nQuestion: {question}<|im_end|>\n<|im_start|>assistant\n",
  });
  expect(card.example?.text).toContain("lighthouse");
  expect([card.stop, card.link, card.behindSystem, card.maxAnswerTokens]).toEqual([undefined, undefined, undefined, 256]);
});

test("a model without a template continues lines of text, and stops at the end of a line", async () => {
  const card = await readCard("nowhere.gguf", plainChatTemplate("<bos>"));
  expect(card.prompt).toEqual({
    system: "<bos>Short answers to questions about the documents below.\n\n",
    document: "Title: {title}\n{text}\n\n",
    question: "Question: {question}\nAnswer:",
  });
  expect([card.stop, card.example, card.link, card.maxAnswerTokens]).toEqual([["\n"], undefined, undefined, 64]);
});
