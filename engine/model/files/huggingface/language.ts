import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { KvspliceError } from "../../../../plan/index.js";
import type { Config } from "./config.js";

type Values = Readonly<Record<string, unknown>>;

/**
 * A folder's settings for tokens and turns, by GGUF's keys: `tokenizer.json` as a whole (`tokenizer.huggingface.json`), the
 * tokens that begin and end a text, the chat template, and how answers are drawn.
 */
export function languageKeys(folder: string, config: Config): Values {
  const read = (name: string): string | undefined =>
    existsSync(join(folder, name)) ? readFileSync(join(folder, name), "utf8") : undefined;
  const tokenizer = read("tokenizer.json");
  if (tokenizer === undefined) {
    const other = existsSync(join(folder, "tokenizer.model"))
      ? ", but tokenizer.model, which is not supported. Save the tokenizer with transformers, or use a GGUF file of the model"
      : ": download it, too";
    throw new KvspliceError("bad_model", `${folder} has no tokenizer.json${other}.`);
  }
  const tokenizerConfig = jsonOf(read("tokenizer_config.json"), folder, "tokenizer_config.json");
  const generation = jsonOf(read("generation_config.json"), folder, "generation_config.json");
  const idOf = idsOf(tokenizer, folder);
  const ends = [generation["eos_token_id"] ?? config.value("eos_token_id")].flat().filter((id) => typeof id === "number");
  const bos = idOf(tokenizerConfig["bos_token"]) ?? config.value("bos_token_id");
  const eos = idOf(tokenizerConfig["eos_token"]) ?? ends[0];
  const template = read("chat_template.jinja") ?? templateOf(tokenizerConfig["chat_template"]);
  return {
    "tokenizer.huggingface.json": tokenizer,
    ...(typeof bos === "number" && { "tokenizer.ggml.bos_token_id": bos }),
    ...(typeof eos === "number" && { "tokenizer.ggml.eos_token_id": eos }),
    ...(ends.length > 0 && { "tokenizer.ggml.eos_token_ids": ends }),
    "tokenizer.ggml.add_bos_token": typeof bos === "number" && (tokenizerConfig["add_bos_token"] ?? beginsWith(tokenizer, bos)),
    ...(template !== undefined && { "tokenizer.chat_template": template }),
    ...(generation["do_sample"] === true && samplingKeys(generation)),
  };
}

/** By llama.cpp's keys (`general.sampling`). */
function samplingKeys(generation: Values): Values {
  const named = { temp: "temperature", top_k: "top_k", top_p: "top_p", min_p: "min_p" };
  return Object.fromEntries(
    Object.entries(named).flatMap(([key, name]) =>
      typeof generation[name] === "number" ? [[`general.sampling.${key}`, generation[name]]] : [],
    ),
  );
}

/** The id of a token given its text, or its description in `tokenizer_config.json`. */
function idsOf(tokenizer: string, folder: string): (token: unknown) => number | undefined {
  const { model, added_tokens } = jsonOf(tokenizer, folder, "tokenizer.json");
  const ids = new Map<string, number>(Object.entries(((model as Values | undefined)?.["vocab"] ?? {}) as Record<string, number>));
  for (const { id, content } of Array.isArray(added_tokens) ? (added_tokens as { id: number; content: string }[]) : [])
    ids.set(content, id);
  return (token) => ids.get(String(typeof token === "object" && token !== null ? (token as Values)["content"] : token));
}

/** Whether the tokenizer puts the token before a text that stands alone. */
function beginsWith(tokenizer: string, bos: number): boolean {
  const { post_processor } = JSON.parse(tokenizer) as { post_processor?: Values | null };
  const steps = [post_processor, ...((post_processor?.["processors"] as Values[] | undefined) ?? [])];
  const special = steps.map((step) => step?.["special_tokens"]).find((each) => typeof each === "object" && each !== null) as
    | Record<string, { ids?: unknown }>
    | undefined;
  return Object.values(special ?? {}).some(({ ids }) => Array.isArray(ids) && ids.includes(bos));
}

/** The only template, or the one for plain chats if there are several. */
function templateOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  const templates = Array.isArray(value) ? (value as { name?: unknown; template?: unknown }[]) : [];
  const found = templates.find(({ name }) => name === "default")?.template;
  return typeof found === "string" ? found : undefined;
}

function jsonOf(text: string | undefined, folder: string, name: string): Values {
  if (text === undefined) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Values;
  } catch {
    // reported below
  }
  throw new KvspliceError("bad_model", `${join(folder, name)} is not JSON. Download it again.`);
}
