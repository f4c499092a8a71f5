import type { Question } from "./data.js";

/** A follow-up question with the messages before it. */
export type FollowUp = {
  readonly first: string;
  readonly answer: string;
  readonly question: string;
  readonly plain: string;
  readonly gold: string;
};

const JOINING = new Set(["the", "of", "and", "in", "a", "to", "for", "on"]);

/**
 * For each pair of consecutive questions about the same passage, the second one, with the longest run of the title's words (and the
 * article before them) replaced by "it" or "its"; left out if it does not contain the title.
 */
export function pronounFollowUps(questions: readonly Question[], titles: ReadonlyMap<string, string>): FollowUp[] {
  const byPassage = new Map<string, Question[]>();
  for (const question of questions) byPassage.set(question.gold, [...(byPassage.get(question.gold) ?? []), question]);
  return [...byPassage].flatMap(([gold, asked]) =>
    asked.slice(1).flatMap((second, index): FollowUp[] => {
      const first = asked[index]!;
      const question = withPronoun(second.question, titles.get(gold)!);
      return question === undefined ? [] : [{ first: first.question, answer: first.answers[0]!, question, plain: second.question, gold }];
    }),
  );
}

/** Who directed a film, the director's name, and "When was he born?" (or his nationality), which his page answers. */
export function directorFollowUps(questions: readonly Question[], titles: ReadonlyMap<string, string>): FollowUp[] {
  return questions.flatMap(({ question, gold }) => {
    const [, film, born] = /director of (.*?)( born)?\?$/.exec(question) ?? [];
    return film === undefined
      ? []
      : [
          {
            first: `Who directed ${film}?`,
            answer: titles.get(gold)!,
            question: born ? "When was he born?" : "What is his nationality?",
            plain: question,
            gold,
          },
        ];
  });
}

/** Questions on a new topic, each after an unrelated one of the same set. */
export function newBeginnings(questions: readonly Question[]): FollowUp[] {
  const half = questions.length >> 1;
  return questions.map(({ question, gold }, index) => {
    const before = questions[(index + half) % questions.length]!;
    return { first: before.question, answer: before.answers[0]!, question, plain: question, gold };
  });
}

function withPronoun(question: string, title: string): string | undefined {
  const bare = (word: string) =>
    word
      .replace(/'s\b/, "")
      .replace(/[^\p{L}\p{N}]/gu, "")
      .toLowerCase();
  const stem = (word: string) => word.replace(/s$/, "");
  const named = new Set(
    title
      .split(/[\s_]+/)
      .map(bare)
      .filter((word) => word !== "" && !JOINING.has(word))
      .map(stem),
  );
  const words = question.split(" ");
  const isNamed = (at: number) => at < words.length && named.has(stem(bare(words[at]!)));
  let best: { start: number; end: number } | undefined;
  for (let start = 0; start < words.length; start++) {
    if (!isNamed(start)) continue;
    let end = start + 1;
    while (isNamed(end) || (JOINING.has(bare(words[end] ?? "")) && isNamed(end + 1))) end++;
    if (best === undefined || end - start > best.end - best.start) best = { start, end };
    start = end;
  }
  if (best === undefined || words.length < 3) return undefined;
  const last = words[best.end - 1]!;
  const tail = /[^\p{L}\p{N}']*$/u.exec(last)![0];
  const start = best.start > 0 && ["the", "a", "an"].includes(words[best.start - 1]!.toLowerCase()) ? best.start - 1 : best.start;
  return [...words.slice(0, start), `${last.includes("'s") ? "its" : "it"}${tail}`, ...words.slice(best.end)].join(" ");
}
