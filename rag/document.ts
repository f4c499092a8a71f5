/** One stretch of a document that should stay in one piece where it fits: the natural borders lie between them. */
export type Paragraph = {
  readonly text: string;
  /** A heading stays with what follows it. */
  readonly heading?: true;
};

/** What a file says, without its form. A file holds one document, a `.jsonl` file one a line. */
export type Document = {
  /** Absolute path of the file. */
  readonly path: string;
  /** One line: from front matter, the first heading, `<title>`, the PDF's metadata, or the file's name. */
  readonly title: string;
  readonly paragraphs: readonly Paragraph[];
};

/** Why a file, or one line of it, is not in the corpus. The others are. */
export type LoadProblem = {
  readonly path: string;
  /** 1-based, where one line is meant. */
  readonly line?: number;
  /** A sentence for people: what is wrong and what to do. */
  readonly reason: string;
};
