/** Prints tokens as they arrive, and returns the whole text. */
export async function stream(tokens: AsyncIterable<{ readonly text: string }>, print: (text: string) => void): Promise<string> {
  let all = "";
  for await (const { text } of tokens) {
    print(text);
    all += text;
  }
  return all;
}

/** Whether an answer is empty. */
export function isSilence(answer: string): boolean {
  return answer.trim() === "";
}
