/** One stretch of a document that should stay in one piece where it fits: the natural borders lie between them. */
export type Paragraph = {
  readonly text: string;
  /** A heading stays with what follows it. */
  readonly heading?: true;
  /** A table's row says its columns' names: they stand above the first row in every chunk. */
  readonly columns?: string;
  /** Page (or slide) that it stands on, from 1, where the file has pages. */
  readonly page?: number;
};

/** What a file says, without its form. A file holds one document; a mailbox, a book or a list of records holds several. */
export type Document = {
  /** Absolute path of the file. */
  readonly path: string;
  /** One line: from front matter, the first heading, `<title>`, the first page, or the file's name. */
  readonly title: string;
  readonly paragraphs: readonly Paragraph[];
};

/** Why a file, or a part of it, is not in the corpus. The others are. */
export type LoadProblem = {
  readonly path: string;
  /** 1-based, where one line is meant. */
  readonly line?: number | undefined;
  /** 1-based, where pages are meant. */
  readonly pages?: readonly number[] | undefined;
  /** A sentence for people: what is wrong and what to do. */
  readonly reason: string;
};
