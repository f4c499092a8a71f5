/** Two factors of the change to one weight: its output y gains `scale * b (a x)`. */
export type LowRank = {
  readonly rank: number;
  /** `[rank, columns]` */
  readonly a: Float32Array;
  /** `[rows, rank]` */
  readonly b: Float32Array;
  readonly rows: number;
  readonly columns: number;
};

/** Passes that an adapter acts on: only those that encode blocks, or all. */
export const WHERE = ["encode", "both"] as const;
export type Where = (typeof WHERE)[number];

/** A low-rank adapter (LoRA, Hu et al. 2021) of a model's linear layers. */
export type Adapter = {
  /** Its name in errors and listings. */
  readonly name: string;
  /** SHA-256 of its content, in hex: part of the identity of what is encoded with it. */
  readonly id: string;
  readonly where: Where;
  readonly scale: number;
  /** The order of the rows of Q and K: transformers', or that of the model's own file. */
  readonly rowOrder: "transformers" | "file";
  /** By the name of the weight that is changed, as in GGUF: `blk.0.attn_q.weight`. */
  readonly pairs: ReadonlyMap<string, LowRank>;
};
