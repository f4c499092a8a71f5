import type { Citation } from "./prepare.js";

/** A document that an answer is based on, with its URL if it has one. */
export type Source = Citation & { readonly url?: string };

/** A part of an answer's text, in UTF-16 units. */
type Span = { readonly start: number; readonly end: number };

/** The only kind of annotation in OpenAI's chats that clients read. In some of them, another kind breaks the whole answer. */
type UrlCitation = {
  readonly type: "url_citation";
  readonly url_citation: { readonly url: string; readonly title: string; readonly start_index: number; readonly end_index: number };
};

/** The documents of a prompt. Those of a corpus link to the server's page of them, never to a file's path. */
export function sourcesOf(citations: readonly Citation[], origin: string): Source[] {
  return citations.map((citation) => {
    const url = citation.url ?? (citation.ref === undefined ? undefined : `${origin}${pageOf(citation.corpus!, citation.ref)}`);
    return { ...citation, ...(url !== undefined && { url }) };
  });
}

/** The page of a file at a chunk, such as `forth-bridge.md#2`. */
function pageOf(corpus: string, ref: string): string {
  const [, file = "", chunk] = /^(.*?)(#\d+)?$/s.exec(ref) ?? [];
  return `/documents/${encodeURIComponent(corpus)}/${file.split("/").map(encodeURIComponent).join("/")}${chunk ?? ""}`;
}

/** Annotations of a text: of each source's line in the list at its end, or of the whole text. Sources without a URL have none. */
export function annotationsOf(sources: readonly Source[], length: number, list: SourceList | undefined): UrlCitation[] {
  const before = length - (list?.text.length ?? 0);
  return sources.flatMap(({ url, title }, index) => {
    const { start, end } = list ? list.spans[index]! : { start: 0, end: before };
    const offset = list ? before : 0;
    return url === undefined
      ? []
      : [{ type: "url_citation" as const, url_citation: { url, title, start_index: offset + start, end_index: offset + end } }];
  });
}

/** Lines for the end of an answer's text, and the position of each source's line. */
export type SourceList = { readonly text: string; readonly spans: readonly Span[] };

/** Lists the sources in Markdown. */
export function sourceList(sources: readonly Source[]): SourceList {
  let text = "\n";
  const spans = sources.map(({ url, title, ref }, index) => {
    const name = (title || ref || "untitled").replace(/[[\]\n]/g, " ");
    text += "\n";
    const start = text.length;
    text += `[${index + 1}] ${url === undefined ? name : `[${name}](${url})`}`;
    return { start, end: text.length };
  });
  return { text, spans };
}
