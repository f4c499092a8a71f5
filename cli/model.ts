import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { availableMemory } from "node:process";
import { type Command, InvalidArgumentError, Option } from "commander";
import pc from "picocolors";
import {
  type Activations,
  type AdapterChoice,
  DEFAULT_DEVICE,
  DEFAULT_ENCODING,
  DEFAULT_QUANTIZATION,
  DEVICES,
  type DeviceChoice,
  ENCODINGS,
  type Encoding,
  KvspliceError,
  type Language,
  type LoadProgress,
  loadModel,
  loadTokenizer,
  type Model,
  modelNeeds,
  type Precision,
  parseBytes,
  pullAdapter,
  pullModel,
  QUANTIZATIONS,
  type Quantization,
} from "../engine/index.js";
import { type AdapterSource, type ModelSource, peekCorpus } from "../rag/index.js";
import { positiveNumber } from "./positive-number.js";
import { progressBar, sizeText } from "./progress.js";

/** The options of every command that takes a model. */
export type ModelOptions = {
  readonly model?: string | undefined;
  readonly quantize?: Quantization;
  readonly context?: number;
  readonly adapter?: readonly AdapterSource[];
  readonly encoding?: Encoding;
  readonly device?: DeviceChoice;
  readonly deviceMemory?: number;
  readonly answerOn?: "device" | "cpu";
};

/** How a command opens its model. `source` is undefined for the model that comes with kvsplice. */
export type ModelChoice = {
  readonly source?: ModelSource | undefined;
  readonly precision?: Precision | undefined;
  readonly encoding?: Encoding | undefined;
  readonly device?: DeviceChoice | undefined;
  readonly deviceMemory?: number | undefined;
  readonly answerOn?: "device" | "cpu" | undefined;
};

export type LoadOptions = ModelChoice & {
  readonly activations?: Activations;
  readonly onIdentified?: ((model: Pick<Model, "id" | "name" | "encoding">) => void | Promise<void>) | undefined;
  readonly signal?: AbortSignal;
  readonly json?: boolean;
};

/** The model of a new corpus, and of commands without a corpus, unless `--model` names another. */
const VARIABLE = "KVSPLICE_MODEL";

export function withModelOptions(command: Command, option: Option = modelOption()): Command {
  return command
    .addOption(option)
    .addOption(
      new Option(
        "--quantize <bits>",
        `how to store float weights (default: ${DEFAULT_QUANTIZATION} for a Hugging Face folder, none for a GGUF file)`,
      ).choices(QUANTIZATIONS),
    )
    .addOption(adapterOption())
    .addOption(
      new Option(
        "--encoding <name>",
        `how documents are encoded: exact, or in 8 bits (w8a8), which is several times faster on processors with VNNI or AMX (default: the corpus's, or ${DEFAULT_ENCODING})`,
      ).choices(ENCODINGS),
    )
    .addOption(
      new Option(
        "--device <name>",
        `what encodes documents and computes answers: cpu, webgpu (a graphics processor, through Vulkan, Metal or Direct3D), or auto, which uses a graphics processor if it is faster; see kvsplice devices (default: ${DEFAULT_DEVICE})`,
      ).choices(DEVICES),
    )
    .addOption(new Option("--device-memory <size>", "maximum device memory to use, such as 8GB (default: unlimited)").argParser(bytesOf))
    .addOption(
      new Option(
        "--answer-on <device|cpu>",
        "with --device: cpu leaves answers to the processor, and only documents are encoded on the device (default: device)",
      ).choices(["device", "cpu"]),
    )
    .option("--context <tokens>", "context length to use the model with (default: the length it was trained on)", positiveNumber);
}

function bytesOf(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined || bytes === 0) throw new InvalidArgumentError("Give a size such as 8GB.");
  return bytes;
}

/** @param several whether several names may be given */
export function modelOption({ several = false } = {}): Option {
  const names = "hf:OWNER/NAME:QUANTISATION, a .gguf file, a Hugging Face folder, a URL, or ollama:NAME";
  return new Option(
    several ? "--model <name...>" : "--model <name>",
    `${names} (default: the corpus's, ${VARIABLE}, or the one that comes with kvsplice)`,
  );
}

function adapterOption(): Option {
  const what =
    "a low-rank adapter for the model: a PEFT folder, a .safetensors or .gguf file, hf:OWNER/NAME or a URL; append =0.5 to scale it; can be repeated (default: the corpus's)";
  return new Option("--adapter <name[=scale]>", what).argParser((text: string, before: readonly AdapterSource[] = []) => [
    ...before,
    adapterOf(text),
  ]);
}

/** An adapter's name, and the number after its last `=`, if there is one and no file has the whole name. */
function adapterOf(text: string): AdapterSource {
  const [, name, scale] = /^(.+)=(-?(?:\d+\.?\d*|\.\d+))$/.exec(text) ?? [];
  return name === undefined || existsSync(text) ? { name: text } : { name, scale: Number(scale) };
}

/** The requested model, or the one the corpus in the folder was made with, or the one that `KVSPLICE_MODEL` names. */
export async function chooseModel(
  {
    model,
    quantize,
    context,
    adapter,
    encoding,
    device,
    deviceMemory,
    answerOn,
    precision,
  }: ModelOptions & { readonly precision?: Precision },
  folder: string | undefined,
): Promise<ModelChoice> {
  const corpus = folder === undefined ? undefined : await peekCorpus(folder);
  const asked = {
    ...(quantize && { quantize }),
    ...(context && { contextLength: context }),
    ...(adapter && { adapters: adapter.map((each) => ({ ...each, name: absolute(each.name) })) }),
  };
  const name = model ?? (corpus ? undefined : process.env[VARIABLE]);
  const remembered = model === undefined ? corpus?.modelSource : undefined;
  if (remembered && isPath(remembered.name) && !existsSync(remembered.name)) {
    throw new KvspliceError(
      "bad_model",
      `The corpus in ${folder} was made with ${corpus!.modelName}, and ${remembered.name} no longer exists. Use --model to say where it is now.`,
    );
  }
  const lost = adapter ? undefined : remembered?.adapters?.find((each) => isPath(each.name) && !existsSync(each.name));
  if (lost)
    throw new KvspliceError(
      "bad_model",
      `The corpus in ${folder} was made with the adapter ${lost.name}, which no longer exists. Use --adapter to say where it is now.`,
    );
  const source = name ? { name: absolute(name), ...asked } : remembered && { ...remembered, ...asked };
  if (adapter && !source) throw new KvspliceError("bad_argument", "An adapter belongs to a model. Name the model too, with --model.");
  return { source, precision: precision ?? corpus?.precision, encoding: encoding ?? corpus?.encoding, device, deviceMemory, answerOn };
}

function absolute(name: string): string {
  return isPath(name) ? resolve(name) : name;
}

function isPath(name: string): boolean {
  return !/^(hf:|ollama:|https?:\/\/)/i.test(name);
}

type FetchOptions = { readonly signal?: AbortSignal | undefined; readonly json?: boolean | undefined };

/** The path of the chosen model, fetched first if needed; undefined for the model that comes with kvsplice. */
export async function fetchModel({ source }: ModelChoice, options: FetchOptions = {}): Promise<string | undefined> {
  return source && fetchNamed(source.name, pullModel, options);
}

/** The path of a named model or adapter on this machine, fetched first if needed. */
export async function fetchNamed(name: string, pull: typeof pullModel, options: FetchOptions = {}): Promise<string> {
  const bar = progressBar("{bar} {percentage}% | {file} | {size} | {eta_formatted} left", options);
  let told = false;
  try {
    return await pull(name, {
      signal: options.signal,
      onNotice: (notice) => process.stderr.write(`${notice}\n`),
      onProgress({ file, bytes: { done, total } }) {
        if (!told) process.stderr.write(`Fetching ${name}${total === undefined ? "" : `, ${sizeText(total)}`}.\n`);
        told = true;
        bar.tell(done, total ?? done, { file, size: sizeText(done) });
      },
    });
  } finally {
    bar.stop();
  }
}

/** The tokenizer and chat template of the model that `chooseModel` would choose. */
export async function loadLanguage(options: ModelOptions, folder: string | undefined): Promise<Language> {
  const path = await fetchModel(await chooseModel(options, folder));
  return loadTokenizer(path === undefined ? {} : { path });
}

/** Loads the model for one command and closes it afterwards. */
export async function withModel<T>(options: LoadOptions, use: (model: Model) => Promise<T>): Promise<T> {
  const model = await openModel(options);
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}

/** Loads a model, fetching it first if needed, and reports progress. */
export async function openModel(options: LoadOptions): Promise<Model> {
  const path = await fetchModel(options, options);
  const { quantize, contextLength, adapters = [] } = options.source ?? {};
  const how = { ...(path !== undefined && { path }), quantize, contextLength, adapters: await fetchAdapters(adapters, options) };
  if (path !== undefined) tellNeeds(path, how);
  const { precision, encoding, device, deviceMemory, answerOn, activations, onIdentified } = options;
  const progress = loadingProgress(options);
  const chosen = {
    ...(precision !== undefined && { precision }),
    encoding,
    device,
    deviceMemory,
    answerOn,
    ...(activations !== undefined && { activations }),
  };
  const onNotice = (notice: string) => void process.stderr.write(`${notice}\n`);
  return loadModel({ onProgress: progress.tell, onIdentified, onNotice, ...how, ...chosen }).finally(progress.stop);
}

async function fetchAdapters(adapters: readonly AdapterSource[], options: FetchOptions): Promise<AdapterChoice[]> {
  const found: AdapterChoice[] = [];
  for (const { name, scale } of adapters)
    found.push({ path: await fetchNamed(name, pullAdapter, options), scale, ...(!isPath(name) && { name }) });
  return found;
}

const STEPS: Readonly<Record<LoadProgress["step"], string | undefined>> = {
  hash: undefined, // a second for a gigabyte
  wait: "Another process is preparing this model; waiting for it.",
  build: "Preparing the model for this processor (once).",
};

/** A progress bar for the slow first load of a model, and a line for each step. */
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
      if (total > 0)
        bar.tell(done, total, { size: sizeText(done), left: remaining_ms === undefined ? "?" : `${Math.ceil(remaining_ms / 1000)} s` });
    },
    stop: bar.stop,
  };
}

/** Reports how much memory a model will take, before loading it. */
function tellNeeds(path: string, how: { readonly quantize?: Quantization | undefined; readonly contextLength?: number | undefined }): void {
  const { name, memory_bytes, token_bytes } = modelNeeds(path, how);
  process.stderr.write(
    `${pc.dim(`${name} takes about ${sizeText(memory_bytes)} of memory, plus ${sizeText(token_bytes * 1000)} for each 1,000 tokens of a prompt.`)}\n`,
  );
  if (memory_bytes > availableMemory()) {
    process.stderr.write(
      `${pc.yellow("warning:")} ${sizeText(availableMemory())} of memory is free on this machine: it may be slow, or the system may kill it. A smaller quantisation takes less.\n`,
    );
  }
}
