import { createHash } from "node:crypto";
import { createReadStream, existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";

import { z } from "zod";

import { KvspliceError } from "../../plan/index.js";

/** How token vectors become one: their mean, or the first. */
export type Pooling = "mean" | "first";

/** A sentence encoder's files, and how its authors used it. */
export type EncoderFiles = {
  /** ONNX. */
  readonly model: string;
  /** Hugging Face's `tokenizer.json`. */
  readonly tokenizer: string;
  /** Name for display. */
  readonly name: string;
  /** Name and hash. */
  readonly id: string;
  readonly pooling: Pooling;
  /** Tokens that it reads at once, including the special tokens around the text. */
  readonly windowTokens: number;
  readonly padId: number;
  /** Prefix of a question and of a document. */
  readonly prompts: { readonly question: string; readonly document: string };
};

/** Where repositories keep their ONNX, smallest and fastest first. */
export const ENCODER_MODELS = [
  "onnx/model_quantized.onnx",
  "onnx/model_int8.onnx",
  "onnx/model_uint8.onnx",
  "onnx/model.onnx",
  "model_quantized.onnx",
  "model.onnx",
];

/** Longer windows take quadratic time, so they are split. */
const MOST_WINDOW_TOKENS = 512;

/** Prefixes that E5 was trained with (Wang et al. 2022 and 2024), documented only on its model page. */
const E5 = /(^|[-_/])e5([-_]|$)/i;
const E5_PROMPTS = { question: "query: ", document: "passage: " };

const NO_PROMPTS = { question: "", document: "" };

const Config = z.object({
  pad_token_id: z.number().nullish(),
  max_position_embeddings: z.number().optional(),
  _name_or_path: z.string().optional(),
});
const Window = z.object({ max_seq_length: z.number().nullish() });
const PoolingConfig = z.object({
  pooling_mode_cls_token: z.boolean().default(false),
  pooling_mode_mean_tokens: z.boolean().default(false),
});
const Prompts = z.object({ prompts: z.record(z.string(), z.string()).nullish() });

/**
 * Reads a folder in the layout of sentence-transformers, with the ONNX in it or below `onnx/`; or the ONNX itself.
 *
 * @throws KvspliceError `bad_model` if something is missing, or if it pools token vectors in an unknown way
 */
export async function readEncoderFolder(path: string): Promise<EncoderFiles> {
  const model = modelIn(path);
  const folder = [dirname(model), dirname(dirname(model))].find((each) => existsSync(join(each, "tokenizer.json")));
  if (folder === undefined)
    throw new KvspliceError(
      "bad_model",
      `The encoder ${path} has no tokenizer.json next to its ONNX. Add it, or name another encoder with --embedder.`,
    );
  const tokenizer = join(folder, "tokenizer.json");
  const config = await json(join(folder, "config.json"), Config);
  const { max_seq_length } = (await json(join(folder, "sentence_bert_config.json"), Window)) ?? {};
  const windowTokens = Math.min(max_seq_length ?? Infinity, config?.max_position_embeddings ?? Infinity, MOST_WINDOW_TOKENS);
  return {
    model,
    tokenizer,
    name: nameOf(folder),
    id: `${nameOf(folder)}/${await fingerprint([model, tokenizer])}`,
    pooling: poolingOf(path, await json(join(folder, "1_Pooling/config.json"), PoolingConfig)),
    windowTokens,
    padId: config?.pad_token_id ?? 0,
    prompts: promptsOf(await json(join(folder, "config_sentence_transformers.json"), Prompts), `${folder} ${config?._name_or_path ?? ""}`),
  };
}

function modelIn(path: string): string {
  if (!existsSync(path))
    throw new KvspliceError(
      "bad_model",
      `There is no encoder at ${path}. Name a folder with an ONNX and its tokenizer.json, or hf:OWNER/NAME.`,
    );
  if (!statSync(path).isDirectory()) return resolve(path);
  const found = ENCODER_MODELS.map((name) => join(path, name)).find((file) => existsSync(file));
  if (found === undefined)
    throw new KvspliceError(
      "bad_model",
      `${path} has no encoder: it contains none of ${ENCODER_MODELS.join(", ")}. Name the ONNX itself, or another folder.`,
    );
  return resolve(found);
}

/** A snapshot's folder in the hub's cache is named after its commit; the repository's name is two levels up. */
function nameOf(folder: string): string {
  const repo = /models--([^/\\]+)[/\\]snapshots[/\\][^/\\]+$/.exec(folder)?.[1];
  return repo?.replace("--", "/") ?? basename(folder);
}

function poolingOf(path: string, config: z.output<typeof PoolingConfig> | undefined): Pooling {
  if (config === undefined || config.pooling_mode_mean_tokens) return "mean";
  if (config.pooling_mode_cls_token) return "first";
  throw new KvspliceError(
    "bad_model",
    `The encoder ${path} pools its token vectors neither by mean nor by the first token (1_Pooling/config.json); no other way is supported. Choose another encoder.`,
  );
}

function promptsOf(config: z.output<typeof Prompts> | undefined, name: string): EncoderFiles["prompts"] {
  const { query, document, passage } = config?.prompts ?? {};
  if (query !== undefined || document !== undefined || passage !== undefined)
    return { question: query ?? "", document: document ?? passage ?? "" };
  return E5.test(name) ? E5_PROMPTS : NO_PROMPTS;
}

/** Undefined if there is no such file. @throws KvspliceError `bad_model` if it is something else */
async function json<T>(path: string, shape: z.ZodType<T>): Promise<T | undefined> {
  if (!existsSync(path)) return undefined;
  try {
    return shape.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll("\n", " ") : (cause as Error).message;
    throw new KvspliceError("bad_model", `${path} cannot be read (${why}); fetch the encoder again.`, { cause });
  }
}

async function fingerprint(paths: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash, { end: false });
  return hash.digest("hex").slice(0, 12);
}
