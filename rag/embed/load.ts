import { readFile } from "node:fs/promises";
import { dirname } from "node:path";

import { Tokenizer } from "@huggingface/tokenizers";

import { pullEncoder } from "../../engine/index.js";
import { KvspliceError } from "../../plan/index.js";
import type { Embedder } from "./embedder.js";
import { SentenceEncoder } from "./encoder.js";
import { ENCODER_MODELS, readEncoderFolder } from "./folder.js";
import { MINILM_FLOOR, minilmFiles } from "./minilm.js";
import { EncoderSessions } from "./session.js";

/** Which encoder to open, and how. */
export type EmbedderOptions = {
  /** A folder with an ONNX and its `tokenizer.json`, the ONNX itself, or `hf:OWNER/NAME`; by default the included all-MiniLM-L6-v2. */
  readonly name?: string | undefined;
  /** Most texts read at once, each with one thread; by default as many as the process may use cores, but at most 12. */
  readonly threads?: number;
  readonly signal?: AbortSignal | undefined;
  /** Called while files are downloaded. */
  readonly onProgress?:
    | ((progress: { readonly file: string; readonly bytes: { readonly done: number; readonly total: number | undefined } }) => void)
    | undefined;
};

/**
 * Loads a sentence encoder. One named with `hf:` is downloaded first if it is not on this machine.
 *
 *     const embedder = await loadEmbedder(); // the one that comes with kvsplice
 *     const [vector] = await embedder.embed(["The lighthouse stands on Gull Point."], { as: "document" });
 *
 * @throws KvspliceError `bad_model` if its files are missing or broken, and the errors of `pullModel`
 */
export async function loadEmbedder(options: EmbedderOptions = {}): Promise<Embedder> {
  const { name, threads } = options;
  const files = name === undefined ? minilmFiles() : await readEncoderFolder(await pullEncoder(name, ENCODER_MODELS, options));
  try {
    const [session, tokenizer] = await Promise.allSettled([
      EncoderSessions.open(files.model, threads),
      readFile(files.tokenizer, "utf8").then((json) => new Tokenizer(JSON.parse(json), {})),
    ]);
    if (session.status === "rejected") throw session.reason;
    try {
      if (tokenizer.status === "rejected") throw tokenizer.reason;
      return await SentenceEncoder.start(files, session.value, tokenizer.value, name === undefined ? MINILM_FLOOR : undefined);
    } catch (error) {
      await session.value.close();
      throw error;
    }
  } catch (cause) {
    if (cause instanceof KvspliceError) throw cause;
    const remedy = name === undefined ? "install kvsplice again" : "it must be a sentence encoder in ONNX with its tokenizer.json";
    throw new KvspliceError(
      "bad_model",
      `The embedder in ${dirname(files.model)} cannot be loaded (${(cause as Error).message}); ${remedy}.`,
      { cause },
    );
  }
}
