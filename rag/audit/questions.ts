import type { Model } from "../../engine/index.js";

/** What the model is asked; it answers in its own words, and the first line is used. */
const ASK = "Write one short question that the text answers. Write the question alone.\n\nText: ";
const QUESTION_TOKENS = 40;

/** Progress and cancellation of `questionsFrom`. */
export type QuestionsOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of questions so far. */
  readonly onProgress?: (made: number) => void;
};

/**
 * Questions that the model writes for texts, spread evenly over them.
 * @throws KvspliceError `cancelled`
 */
export async function questionsFrom(
  model: Model,
  texts: readonly string[],
  count: number,
  { signal, onProgress }: QuestionsOptions = {},
): Promise<string[]> {
  const { chat, tokenizer } = model;
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const { open, close } = chat.frame("user", undefined);
  const questions: string[] = [];
  const step = Math.max(1, texts.length / count);
  for (let at = 0; at < texts.length && questions.length < count; at += step) {
    const text = texts[Math.floor(at)]!;
    const tokens = [
      ...control(open),
      ...tokenizer.encode(chat.content("user", ASK + text)),
      ...control(close),
      ...control(chat.generationPrompt),
    ];
    const said = await model.generate(
      { pieces: [{ tokens, at: 0 }] },
      { maxNewTokens: QUESTION_TOKENS, temperature: 0, ...(signal && { signal }) },
    ).text;
    const question = said
      .trim()
      .split("\n")[0]!
      .replace(/^(question|q)\s*:\s*/i, "")
      .trim();
    if (question !== "" && !questions.includes(question)) questions.push(question);
    onProgress?.(questions.length);
  }
  return questions;
}
