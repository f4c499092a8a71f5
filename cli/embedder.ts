import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { KvspliceError } from "../engine/index.js";
import { type Embedder, loadEmbedder, peekCorpus } from "../rag/index.js";
import { progressBar, sizeText } from "./progress.js";

export type EmbedderOptions = { readonly embedder?: string };

/** The `--embedder` name of the embedder that the package contains. */
const CARRIED = "minilm";

/** An embedder to open with a corpus. `embedderName` is undefined for the one in the package. */
export type LoadedEmbedder = { readonly embedder: Embedder; readonly embedderName?: string | undefined };

export function withEmbedderOption(command: Command, more = ""): Command {
  return command.option(
    "--embedder <name>",
    `ONNX sentence encoder that finds documents: a folder or hf:OWNER/NAME (default: the corpus's, or ${CARRIED}, which is for English)${more}`,
  );
}

/** Opens the requested embedder, or the one that embedded the folder's corpus. Fetches it first if it is not on this machine. */
export async function openEmbedder(
  { embedder, json }: EmbedderOptions & { readonly json?: boolean | undefined },
  folder: string,
  signal?: AbortSignal,
): Promise<LoadedEmbedder> {
  const remembered = embedder === undefined ? (await peekCorpus(folder))?.embedderName : undefined;
  if (remembered !== undefined && !remembered.startsWith("hf:") && !existsSync(remembered)) {
    throw new KvspliceError(
      "bad_model",
      `The corpus in ${folder} was embedded with ${remembered}, which no longer exists. Use --embedder to say where it is now.`,
    );
  }
  const asked = embedder ?? remembered;
  if (asked === undefined || asked === CARRIED) return { embedder: await loadEmbedder() };
  const name = asked.startsWith("hf:") ? asked : resolve(asked);
  const bar = progressBar("{bar} {percentage}% | {file} | {size} | {eta_formatted} left", { json });
  try {
    const loaded = await loadEmbedder({
      name,
      signal,
      onProgress: ({ file, bytes: { done, total } }) => bar.tell(done, total ?? done, { file, size: sizeText(done) }),
    });
    return { embedder: loaded, embedderName: name };
  } finally {
    bar.stop();
  }
}

/** `--floor` and `--no-floor`, for commands that answer. */
export function withFloorOptions(command: Command): Command {
  return command
    .option(
      "--floor <score>",
      "minimum score of the best document, 0 to 1, for anything to count as found (default: the value measured for the embedder)",
      score,
    )
    .option("--no-floor", "use the nearest documents, however low they score");
}

export type FloorOptions = { readonly floor?: number | false };

function score(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= 1)) throw new InvalidArgumentError("Give a number from 0 to 1.");
  return value;
}
