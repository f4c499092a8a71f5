import { describe, expect, test } from "vitest";

import { KeywordIndex } from "../../rag/retrieve/keyword.js";
import { termsOf, termsOfQuestion } from "../../rag/retrieve/terms.js";

/** Ids of the chunks that a question's words find, best first. */
function found(texts: readonly string[], question: string): number[] {
  const index = new KeywordIndex();
  texts.forEach((text, id) => index.add({ id, title: "", text }));
  return index.search(question, 10).hits.map(({ id }) => id);
}

describe("letters that look alike give the same term", () => {
  test.each([
    ["composed and decomposed letters", "caf\u00e9 Malm\u00f6", "cafe\u0301 Malmo\u0308"],
    ["ligatures", "\ufb01nal o\ufb03ce", "final office"],
    ["full width", "\uff21\uff22\uff23\uff11\uff12", "abc12"],
    ["half width kana", "\uff76\uff9e\uff97\uff7d", "ガラス"],
    ["Arabic presentation forms", "\ufe8d\ufedf\ufeb4\ufefc\ufee1", "السلام"],
    ["Arabic vowels and the tatweel", "السَّلَام العـــربية", "السلام العربية"],
    ["case, the German sharp s", "STRASSE Köln", "straße köln"],
    ["accents that were left out", "résumé naïve Ἀθῆναι", "resume naive Αθηναι"],
  ])("%s", (_, written, asked) => {
    expect(termsOf(written)).toEqual(termsOf(asked));
    expect(termsOf(written).length).toBeGreaterThan(0);
  });

  test("a mark that makes a different letter is kept: Hindi's vowels, Russian's short i", () => {
    expect(termsOf("हिन्दी")).toEqual(["हिन्दी"]);
    expect(termsOf("мой мои")).toEqual(["мой", "мои"]);
  });
});

describe("number", () => {
  test.each([
    ["index", "indexes"],
    ["box", "boxes"],
    ["church", "churches"],
    ["city", "cities"],
    ["house", "houses"],
    ["cache", "caches"],
    ["lighthouse", "lighthouses"],
    ["maison", "maisons"],
    ["barco", "barcos"],
  ])("%s and %s are the same term", (one, several) => {
    expect(termsOf(several)).toEqual(termsOf(one));
  });

  test.each([
    ["bus", "bu"],
    ["glass", "glas"],
    ["analysis", "analysi"],
    ["das", "da"],
    ["plan", "plane"],
    ["car", "care"],
  ])("%s and %s are different terms", (a, b) => {
    expect(termsOf(a)).not.toEqual(termsOf(b));
  });
});

describe("scripts without spaces", () => {
  const chinese = ["渡輪四分鐘就能過河，它載六輛車。", "燈塔看守人寫了二十二年日記。", "酸麵包靠野生酵母發酵。"];

  test.each([
    ["渡輪要多久才能過河？", 0],
    ["誰寫了日記？", 1],
    ["麵包怎麼發酵？", 2],
    ["車", 0],
  ])("Chinese: %s", (question, expected) => {
    expect(found(chinese, question)[0]).toBe(expected);
  });

  test("Japanese, Thai and Korean, by parts of their words", () => {
    const texts = ["灯台守は二十二年間日記をつけていた。", "เรือข้ามฟากข้ามแม่น้ำในสี่นาที", "등대지기는 일기를 썼다."];
    expect(found(texts, "日記をつけたのは誰ですか")[0]).toBe(0);
    expect(found(texts, "เรือข้ามแม่น้ำกี่นาที")[0]).toBe(1);
    expect(found(texts, "일기")[0]).toBe(2);
  });

  test("words in other scripts between them are still words", () => {
    expect(termsOfQuestion("用Docker部署")).toEqual(["用", "docker", "部署"]);
    expect(termsOf("用Docker部署")).toEqual(["用", "docker", "部", "署", "部署"]);
  });
});

test("a question's terms are always among those of a chunk with the same text", () => {
  for (const text of ["渡輪四分鐘 Ferry boats, 渡", "Les élèves naïfs", "등대지기는 1.30.0"]) {
    const there = new Set(termsOf(text));
    expect(termsOfQuestion(text).filter((term) => !there.has(term))).toEqual([]);
  }
});
