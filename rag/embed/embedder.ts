/** Maps texts to vectors that are close if their meanings are. */
export interface Embedder {
  /** Name for display. */
  readonly name: string;
  /** Identifies it: vectors from embedders with different ids cannot be compared. */
  readonly id: string;
  readonly dimensions: number;
  /**
   * If the best chunk's score (`Source.score`) is below this, nothing counts as found; for an encoder whose scores were
   * measured. Other encoders' cosines are scaled to match.
   */
  readonly floor?: number | undefined;
  /** One vector of length 1 for each text, `[dimensions]`. */
  embed(texts: readonly string[], options?: EmbedOptions): Promise<Float32Array[]>;
  /** Number of tokens of the texts. */
  countTokens(texts: readonly string[]): Promise<number>;
  /** Frees the encoder's memory after passes in progress have ended. */
  close(): Promise<void>;
}

/** What the texts are, and how long they may be. */
export type EmbedOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Maximum tokens of one text; a longer one is refused (`too_long`) without reading it to the end. Unlimited by default. */
  readonly mostTokens?: number;
  /** What the texts are: some encoders expect a prefix before questions and documents. No prefix by default. */
  readonly as?: "question" | "document";
};
