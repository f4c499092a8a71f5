import { basename, dirname } from "node:path";
import { KvspliceError } from "../../../plan/index.js";
import type { Choice } from "./reference.js";

/**
 * The files that make up one model in a repository: a GGUF file, its parts, a folder's files, an ONNX with the files it needs,
 * or a PEFT adapter.
 */
export type Chosen = { readonly kind: "gguf" | "folder" | "encoder" | "adapter"; readonly files: readonly string[] };

/** The default if no quantisation is requested, as in llama.cpp and Ollama. */
const USUAL_QUANTIZATION = "Q4_K_M";

const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;
/** Quantisations as they appear in file names. */
const LABEL = /(?:^|[-._/])((?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|BF16|F16|F32|FP16))(?=[-._/]|$)/gi;
/** Files that go with a model but are not one. */
const ACCESSORY = /(^|[-._/])(mmproj|imatrix)([-._]|$)/i;

/** The files of a folder that are read in addition to its weights. */
const FOLDER_FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
/** The files of a sentence encoder that are read in addition to its ONNX. */
const ENCODER_FILES = [
  "config.json",
  "tokenizer.json",
  "sentence_bert_config.json",
  "config_sentence_transformers.json",
  "1_Pooling/config.json",
];
/** The files of a PEFT adapter, and the card that it may have been trained with. */
const ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors"];
const ADAPTER_CARD = "card.json";
export const SAFETENSORS_INDEX = "model.safetensors.index.json";

/** The chosen model's files among those of a repository; undefined if it has none of that kind. */
export function choose(files: readonly string[], choice: Choice): Chosen | undefined {
  const all = groups(files);
  switch (choice.kind) {
    case "file": {
      const found =
        all.find((group) => group.includes(choice.path)) ?? all.find((group) => group.some((file) => basename(file) === choice.path));
      return found && { kind: "gguf", files: found };
    }
    case "quantization": {
      const wanted = choice.label.toUpperCase();
      const exact = all.filter((group) => labelOf(group[0]!) === wanted);
      const found = exact.length > 0 ? exact : all.filter((group) => labelOf(group[0]!)?.replace("UD-", "") === wanted);
      if (found.length > 1)
        throw new KvspliceError("bad_argument", `${found.length} files are ${choice.label}: choose one of ${names(found)} instead.`);
      return found[0] && { kind: "gguf", files: found[0] };
    }
    case "encoder": {
      const model = choice.paths.find((path) => files.includes(path));
      return model === undefined
        ? undefined
        : { kind: "encoder", files: [model, ...[`${model}_data`, ...ENCODER_FILES].filter((file) => files.includes(file))] };
    }
    case "adapter": {
      const [config, weights, card] = [...ADAPTER_FILES, ADAPTER_CARD].map((file) =>
        choice.folder === "" ? file : `${choice.folder}/${file}`,
      ) as [string, string, string];
      if (files.includes(config) && files.includes(weights))
        return { kind: "adapter", files: [config, weights, ...(files.includes(card) ? [card] : [])] };
      const found = choose(files, choice.folder === "" ? { kind: "any" } : { kind: "quantization", label: choice.folder });
      return found?.kind === "gguf" ? found : undefined;
    }
    case "any": {
      const [only, ...others] = all;
      if (only && others.length === 0) return { kind: "gguf", files: only };
      const usual = all.find((group) => labelOf(group[0]!) === USUAL_QUANTIZATION);
      if (usual) return { kind: "gguf", files: usual };
      const folder = all.length === 0 ? folderFiles(files) : undefined;
      return folder && { kind: "folder", files: folder };
    }
  }
}

/** All models in a repository, each with the label that selects it; a folder, or a single file without a label, has none. */
export function models(files: readonly string[]): readonly { readonly chosen: Chosen; readonly label: string | undefined }[] {
  const all = groups(files);
  const folder = all.length === 0 ? folderFiles(files) : undefined;
  if (folder) return [{ chosen: { kind: "folder", files: folder }, label: undefined }];
  return all.map((group) => {
    const label = labelOf(group[0]!);
    const isOnly = label !== undefined && all.filter((other) => labelOf(other[0]!) === label).length === 1;
    return { chosen: { kind: "gguf", files: group }, label: isOnly ? label : group[0]! };
  });
}

/** What could have been requested, for the message that there is no such model. */
export function offered(files: readonly string[], choice: Choice): string {
  if (choice.kind === "encoder") {
    const encoders = files.filter((file) => /\.onnx$/i.test(file));
    return encoders.length === 0 ? "It has no encoder in ONNX." : `It has ${encoders.join(", ")}: add one of them after a colon.`;
  }
  if (choice.kind === "adapter") {
    const folders = files.filter((file) => basename(file) === ADAPTER_FILES[0]).map((file) => dirname(file));
    const named = folders.filter((folder) => folder !== ".");
    return named.length > 0
      ? `It has adapters in ${named.join(", ")}: add one of them after a colon.`
      : "It has no adapter_config.json with adapter_model.safetensors, and no adapter in GGUF.";
  }
  const all = models(files);
  const labels = all.flatMap(({ label }) => label ?? []);
  if (labels.length > 0) return `It has ${labels.join(", ")}.`;
  if (all.length > 0) return "It has safetensors but no GGUF files: name it without a quantisation, and choose one with --quantize.";
  return "It has neither GGUF files nor config.json with model.safetensors.";
}

/** GGUF models, each with its files in order; incomplete models are left out. */
function groups(files: readonly string[]): string[][] {
  const byName = new Map<string, string[]>();
  for (const file of files.filter((each) => /\.gguf$/i.test(each) && !ACCESSORY.test(each)).sort()) {
    const name = file.replace(PART, (_, _number: string, count: string) => `-of-${count}.gguf`);
    byName.set(name, [...(byName.get(name) ?? []), file]);
  }
  return [...byName.values()].filter((group) => group.length === Number(PART.exec(group[0]!)?.[2] ?? 1));
}

/** The quantisation at the end of a file's name, in capitals. */
function labelOf(file: string): string | undefined {
  const name = file.replace(PART, "").replace(/\.gguf$/i, "");
  return [...name.matchAll(LABEL)].at(-1)?.[1]?.toUpperCase();
}

function folderFiles(files: readonly string[]): string[] | undefined {
  const weights = files.filter(
    (file) => file === "model.safetensors" || file === SAFETENSORS_INDEX || /^model-\d{5}-of-\d{5}\.safetensors$/.test(file),
  );
  if (!files.includes("config.json") || weights.length === 0) return undefined;
  return [...FOLDER_FILES.filter((file) => files.includes(file)), ...weights];
}

function names(models: readonly (readonly string[])[]): string {
  return models.map((group) => group[0]).join(", ");
}
