import { basename } from "node:path";
import { KvspliceError } from "../../../plan/index.js";
import type { Choice } from "./reference.js";

/** The files that make up one model of a repository: a GGUF file, its parts, or a folder's files. */
export type Chosen = { readonly kind: "gguf"; readonly files: readonly string[] } | { readonly kind: "folder"; readonly files: readonly string[] };

/** What is taken where nothing is asked for, as llama.cpp and Ollama do. */
const USUAL_QUANTIZATION = "Q4_K_M";

const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;
/** Quantisations as files are named by them. */
const LABEL = /(?:^|[-._/])((?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|BF16|F16|F32|FP16))(?=[-._/]|$)/gi;
/** What goes with a model, and is none. */
const ACCESSORY = /(^|[-._/])(mmproj|imatrix)([-._]|$)/i;

/** What of a folder is read beside its weights. */
const FOLDER_FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
export const SAFETENSORS_INDEX = "model.safetensors.index.json";

/** The chosen model's files among those that a repository has; undefined where it has none of that kind. */
export function choose(files: readonly string[], choice: Choice): Chosen | undefined {
  const all = groups(files);
  switch (choice.kind) {
    case "file": {
      const found = all.find((group) => group.includes(choice.path)) ?? all.find((group) => group.some((file) => basename(file) === choice.path));
      return found && { kind: "gguf", files: found };
    }
    case "quantization": {
      const wanted = choice.label.toUpperCase();
      const exact = all.filter((group) => labelOf(group[0]!) === wanted);
      const found = exact.length > 0 ? exact : all.filter((group) => labelOf(group[0]!)?.replace("UD-", "") === wanted);
      if (found.length > 1) throw new KvspliceError("bad_argument", `${found.length} files are ${choice.label}: name one of ${names(found)} instead.`);
      return found[0] && { kind: "gguf", files: found[0] };
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

/** All models that a repository's files make up, with what each is asked for by; a folder, and a lone file without one, by nothing. */
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

/** What could have been asked for, for the message that there is no such thing. */
export function offered(files: readonly string[]): string {
  const all = models(files);
  const labels = all.flatMap(({ label }) => label ?? []);
  if (labels.length > 0) return `It has ${labels.join(", ")}.`;
  if (all.length > 0) return "It has no GGUF files, but safetensors: name it without a quantisation, and choose one with --quantize.";
  return "It has no GGUF files, nor config.json with model.safetensors.";
}

/** GGUF models, each with its files in order; models of which a part is not there are left out. */
function groups(files: readonly string[]): string[][] {
  const byName = new Map<string, string[]>();
  for (const file of files.filter((each) => /\.gguf$/i.test(each) && !ACCESSORY.test(each)).sort()) {
    const name = file.replace(PART, (_, _number: string, count: string) => `-of-${count}.gguf`);
    byName.set(name, [...(byName.get(name) ?? []), file]);
  }
  return [...byName.values()].filter((group) => group.length === Number(PART.exec(group[0]!)?.[2] ?? 1));
}

/** The quantisation that a file's name ends with, in capitals. */
function labelOf(file: string): string | undefined {
  const name = file.replace(PART, "").replace(/\.gguf$/i, "");
  return [...name.matchAll(LABEL)].at(-1)?.[1]?.toUpperCase();
}

function folderFiles(files: readonly string[]): string[] | undefined {
  const weights = files.filter((file) => file === "model.safetensors" || file === SAFETENSORS_INDEX || /^model-\d{5}-of-\d{5}\.safetensors$/.test(file));
  if (!files.includes("config.json") || weights.length === 0) return undefined;
  return [...FOLDER_FILES.filter((file) => files.includes(file)), ...weights];
}

function names(models: readonly (readonly string[])[]): string {
  return models.map((group) => group[0]).join(", ");
}
