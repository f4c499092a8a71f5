import { availableMemory } from "node:process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import pc from "picocolors";
import { type Activations, DEFAULT_QUANTIZATION, KvspliceError, type Language, loadModel, type LoadProgress, loadTokenizer, type Model, modelNeeds, type Precision, pullModel, type Quantization, QUANTIZATIONS } from "../engine/index.js";
import { type ModelSource, peekCorpus } from "../rag/index.js";
import { progressBar, sizeText } from "./progress.js";

/** Options of every command that takes a model. */
export type ModelOptions = { readonly model?: string; readonly quantize?: Quantization; readonly context?: number; readonly adapter?: string };

/** How a command's model is opened; `source` is undefined for the one that kvsplice carries. */
export type ModelChoice = { readonly source?: ModelSource | undefined; readonly precision?: Precision | undefined };

type LoadOptions = ModelChoice & { readonly activations?: Activations; readonly signal?: AbortSignal; readonly json?: boolean };

/** The model of a new corpus, and of commands without one, unless `--model` says otherwise. */
const VARIABLE = "KVSPLICE_MODEL";

export function withModelOptions(command: Command): Command {
  return command
    .addOption(modelOption())
    .addOption(new Option("--quantize <bits>", `how the weights of a Hugging Face folder are kept (default: ${DEFAULT_QUANTIZATION})`).choices(QUANTIZATIONS))
    .option("--adapter <path>", "a low-rank adapter of the model: a folder of PEFT's, a .safetensors or a .gguf file (default: the corpus's)")
    .option("--context <tokens>", "positions that the model is used with (default: as many as it was trained on)", positions);
}

export function modelOption(): Option {
  const names = "hf:OWNER/NAME:QUANTISATION, a .gguf file, a Hugging Face folder, an address, or ollama:NAME";
  return new Option("--model <name>", `${names} (default: the corpus's, ${VARIABLE}, or the one that kvsplice carries)`);
}

function positions(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError("Give a whole number from 1.");
  return Number(text);
}

/** What was asked for; or what the corpus in the folder was made with; or what `KVSPLICE_MODEL` names. */
export async function chooseModel({ model, quantize, context, adapter, precision }: ModelOptions & { readonly precision?: Precision }, folder: string | undefined): Promise<ModelChoice> {
  const corpus = folder === undefined ? undefined : await peekCorpus(folder);
  const asked = { ...(quantize && { quantize }), ...(context && { contextLength: context }), ...(adapter !== undefined && { adapter: resolve(adapter) }) };
  const name = model ?? (corpus ? undefined : process.env[VARIABLE]);
  const remembered = model === undefined ? corpus?.modelSource : undefined;
  if (remembered && isPath(remembered.name) && !existsSync(remembered.name)) {
    throw new KvspliceError("bad_model", `The corpus in ${folder} was made with ${corpus!.modelName}, and ${remembered.name} is not there any more. Say with --model where it is.`);
  }
  const source = name ? { name: isPath(name) ? resolve(name) : name, ...asked } : remembered && { ...remembered, ...asked };
  if (adapter !== undefined && !source) throw new KvspliceError("bad_argument", "An adapter belongs to a model: name that with --model as well.");
  return { source, precision: precision ?? corpus?.precision };
}

function isPath(name: string): boolean {
  return !/^(hf:|ollama:|https?:\/\/)/i.test(name);
}

/** The chosen model's place on this machine, fetched first where it is not here; undefined for the one that kvsplice carries. */
export async function fetchModel({ source }: ModelChoice, options: { readonly signal?: AbortSignal | undefined; readonly json?: boolean | undefined } = {}): Promise<string | undefined> {
  if (!source) return undefined;
  const bar = progressBar("{bar} {percentage}% | {file} | {size} | {eta_formatted} left", options);
  let told = false;
  try {
    return await pullModel(source.name, {
      signal: options.signal,
      onNotice: (notice) => process.stderr.write(`${notice}\n`),
      onProgress({ file, bytes: { done, total } }) {
        if (!told) process.stderr.write(`Fetching ${source.name}${total === undefined ? "" : `, ${sizeText(total)}`}.\n`);
        told = true;
        bar.tell(done, total ?? done, { file, size: sizeText(done) });
      },
    });
  } finally {
    bar.stop();
  }
}

/** What counts and lays out tokens, of the model that `chooseModel` would choose. */
export async function loadLanguage(options: ModelOptions, folder: string | undefined): Promise<Language> {
  const path = await fetchModel(await chooseModel(options, folder));
  return loadTokenizer(path === undefined ? {} : { path });
}

/** Loads the model for one command and closes it afterwards. */
export async function withModel<T>(options: LoadOptions, use: (model: Model) => Promise<T>): Promise<T> {
  const path = await fetchModel(options, options);
  const { quantize, contextLength, adapter } = options.source ?? {};
  const how = { ...(path !== undefined && { path }), quantize, contextLength, ...(adapter !== undefined && { adapter }) };
  if (path !== undefined) tellNeeds(path, how);
  const { precision, activations } = options;
  const progress = loadingProgress(options);
  const model = await loadModel({ onProgress: progress.tell, ...how, ...(precision !== undefined && { precision }), ...(activations !== undefined && { activations }) }).finally(progress.stop);
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}

const STEPS: Readonly<Record<LoadProgress["step"], string | undefined>> = {
  hash: undefined, // a second for a gigabyte
  wait: "Another process prepares this model; it is waited for.",
  build: "Preparing the model for this processor, once.",
};

/** A bar for what takes long when a model is loaded the first time, and a line for each step of it. */
function loadingProgress(options: { readonly json?: boolean | undefined }): { tell(progress: LoadProgress): void; stop(): void } {
  const bar = progressBar("{bar} {percentage}% | {size} | {left} left", options);
  let told: LoadProgress["step"] | undefined;
  return {
    tell({ step, done, total, remaining_ms }) {
      if (step !== told) {
        bar.stop();
        if (STEPS[step]) process.stderr.write(`${pc.dim(STEPS[step])}\n`);
        told = step;
      }
      if (total > 0) bar.tell(done, total, { size: sizeText(done), left: remaining_ms === undefined ? "?" : `${Math.ceil(remaining_ms / 1000)} s` });
    },
    stop: bar.stop,
  };
}

/** Says what memory a model will take, before it does. */
function tellNeeds(path: string, how: { readonly quantize?: Quantization | undefined; readonly contextLength?: number | undefined }): void {
  const { name, memory_bytes, token_bytes } = modelNeeds(path, how);
  process.stderr.write(pc.dim(`${name} takes some ${sizeText(memory_bytes)} of memory, and ${sizeText(token_bytes * 1000)} for each 1,000 tokens of a prompt.`) + "\n");
  if (memory_bytes > availableMemory()) {
    process.stderr.write(`${pc.yellow("warning:")} ${sizeText(availableMemory())} of memory are free on this machine: it may be slow, or be ended by the system. A smaller quantisation takes less.\n`);
  }
}
