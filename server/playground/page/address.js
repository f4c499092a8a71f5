/** The tab named in the page's URL: `#pml`, `#ask?corpus=...`. */
export function tabOfAddress() {
  return location.hash.slice(1).split("?")[0];
}

/**
 * The question in the URL after `#ask?`. It stays in the browser and does not appear in server logs.
 *
 * @returns {{ model: string, corpus: string | undefined, question: string }}
 */
export function questionOfAddress() {
  const given = new URLSearchParams(location.hash.startsWith("#ask?") ? location.hash.slice("#ask?".length) : "");
  return { model: given.get("model") ?? "", corpus: given.get("corpus") ?? undefined, question: given.get("question") ?? "" };
}

/** @param {{ model: string, corpus: string, question: string }} asked */
export function addressOf(asked) {
  return `${location.origin}${location.pathname}#ask?${new URLSearchParams(asked)}`;
}
