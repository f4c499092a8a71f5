import { KvspliceError } from "../../../plan/index.js";

/**
 * Which of a repository's models to use: a file, a quantisation such as Q4_K_M, or whatever there is; or a sentence encoder, the
 * first of these paths that exists; or an adapter, PEFT in a folder (the root if empty) or GGUF.
 */
export type Choice =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "quantization"; readonly label: string }
  | { readonly kind: "any" }
  | { readonly kind: "encoder"; readonly paths: readonly string[] }
  | { readonly kind: "adapter"; readonly folder: string };

/** How a model is named on the command line, in `KVSPLICE_MODEL`, or in a program. */
export type ModelReference =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "hub"; readonly repo: string; readonly revision: string; readonly choice: Choice }
  | { readonly kind: "ollama"; readonly name: string; readonly tag: string }
  | { readonly kind: "url"; readonly url: URL };

const DEFAULT_REVISION = "main";
const REPO = /^[\w.-]+\/[\w.-]+$/;
const FILE = /\.gguf$/i;

/**
 * Reads a model's name: `hf:OWNER/NAME`, optionally with `@REVISION` and `:QUANTISATION` or `:FILE.gguf`; a URL of a page or file
 * on the hub, or of a GGUF file anywhere; `ollama:NAME:TAG`; anything else is a path.
 *
 * @param endpoint the hub's address; URLs there belong to the hub
 * @throws KvspliceError `bad_argument` if it begins like one of these but is malformed
 */
export function parseReference(text: string, endpoint: string): ModelReference {
  if (text.startsWith("hf:")) return hubReference(text, text.slice("hf:".length));
  if (text.startsWith("ollama:")) return ollamaReference(text);
  if (/^https?:\/\//i.test(text)) return urlReference(text, endpoint);
  return { kind: "path", path: text };
}

/** The name in the form that `parseReference` reads. */
export function printReference(reference: ModelReference): string {
  switch (reference.kind) {
    case "path":
      return reference.path;
    case "url":
      return reference.url.href;
    case "ollama":
      return `ollama:${reference.name}:${reference.tag}`;
    case "hub":
      return `hf:${reference.repo}${reference.revision === DEFAULT_REVISION ? "" : `@${reference.revision}`}${printChoice(reference.choice)}`;
  }
}

function printChoice(choice: Choice): string {
  switch (choice.kind) {
    case "any":
    case "encoder":
      return "";
    case "file":
      return `:${choice.path}`;
    case "quantization":
      return `:${choice.label}`;
    case "adapter":
      return choice.folder === "" ? "" : `:${choice.folder}`;
  }
}

function hubReference(text: string, name: string): ModelReference {
  const colon = name.indexOf(":");
  const [place, chosen] = colon < 0 ? [name, ""] : [name.slice(0, colon), name.slice(colon + 1)];
  const [repo, revision = DEFAULT_REVISION] = place.split("@", 2);
  if (!REPO.test(repo!) || revision === "" || (colon >= 0 && chosen === "")) throw malformed(text);
  return { kind: "hub", repo: repo!, revision, choice: choiceOf(chosen) };
}

function choiceOf(text: string): Choice {
  if (text === "") return { kind: "any" };
  return FILE.test(text) ? { kind: "file", path: text } : { kind: "quantization", label: text };
}

function urlReference(text: string, endpoint: string): ModelReference {
  if (!URL.canParse(text)) throw malformed(text);
  const url = new URL(text);
  if (![new URL(endpoint).host, "huggingface.co", "www.huggingface.co", "hf.co"].includes(url.host)) {
    if (!FILE.test(url.pathname))
      throw new KvspliceError("bad_argument", `${text} is not the address of a .gguf file. Give that, or a page of huggingface.co.`);
    return { kind: "url", url };
  }
  const [owner, name, page, revision, ...path] = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  const repo = [owner, name].filter(Boolean).join("/");
  if (!REPO.test(repo)) throw malformed(text);
  const isFile = (page === "resolve" || page === "blob") && path.length > 0;
  const choice: Choice = isFile && FILE.test(path.join("/")) ? { kind: "file", path: path.join("/") } : { kind: "any" };
  return { kind: "hub", repo, revision: page !== undefined && revision !== undefined ? revision : DEFAULT_REVISION, choice };
}

function ollamaReference(text: string): ModelReference {
  const [name, tag = "latest"] = text.slice("ollama:".length).split(":", 2);
  if (!/^[\w.-]+(\/[\w.-]+)*$/.test(name!) || !/^[\w.-]+$/.test(tag)) throw malformed(text);
  return { kind: "ollama", name: name!, tag };
}

function malformed(text: string): KvspliceError {
  return new KvspliceError(
    "bad_argument",
    `"${text}" does not name a model. Write hf:OWNER/NAME:QUANTISATION, such as hf:Qwen/Qwen3-1.7B-GGUF:Q4_K_M, or a path.`,
  );
}
