/** Prints tokens as they come; the whole text at the end. */
export async function stream(tokens: AsyncIterable<{ readonly text: string }>, print: (text: string) => void): Promise<string> {
  let all = "";
  for await (const { text } of tokens) {
    print(text);
    all += text;
  }
  return all;
}

/** Whether a model said nothing: then no empty line stands for it. */
export function isSilence(answer: string): boolean {
  return answer.trim() === "";
}
