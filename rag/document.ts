import type { Fields } from "./fields.js";

/** A stretch of a document that should stay in one piece if it fits: natural borders lie between paragraphs. */
export type Paragraph = {
  readonly text: string;
  /** A heading stays with what follows it. */
  readonly heading?: true;
  /** For a table's row, the names of its columns: they precede the first row in every chunk. */
  readonly columns?: string;
  /** Its page (or slide), from 1, if the file has pages. */
  readonly page?: number;
};

/** A file's content without its format. Most files are one document; a mailbox, a book or a list of records has several. */
export type Document = {
  /** Absolute path of the file. */
  readonly path: string;
  /** One line, from front matter, the first heading, `<title>`, the first page, or the file's name. */
  readonly title: string;
  readonly paragraphs: readonly Paragraph[];
  /** Its metadata besides title and text; `date` is the document's own. */
  readonly fields?: Fields;
};

/** Why a file, or a part of it, is not in the corpus. */
export type LoadProblem = {
  readonly path: string;
  /** 1-based, if the problem is in one line. */
  readonly line?: number | undefined;
  /** 1-based, if the problem is in certain pages. */
  readonly pages?: readonly number[] | undefined;
  /** A sentence for the user: what is wrong and what to do. */
  readonly reason: string;
};
