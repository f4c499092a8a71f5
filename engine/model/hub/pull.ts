import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { statfs, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { KvspliceError } from "../../../plan/index.js";
import { makeFolder } from "../../../storage/index.js";
import { RepoCache } from "./cache.js";
import { type Chosen, choose, offered } from "./choose.js";
import { type Download, download } from "./download.js";
import { ADDRESS_FILE, URLS } from "./held.js";
import { connectionError, type Fetch, hubFetch, refusalError } from "./http.js";
import { type ModelReference, printReference } from "./reference.js";
import { type HubSettings, hubSettings } from "./settings.js";
import { findInOllama, findOnShelves } from "./shelves.js";

type HubReference = Extract<ModelReference, { kind: "hub" }>;
type UrlReference = Extract<ModelReference, { kind: "url" }>;

/** The progress of fetching; bytes that were here before count as done. */
export type PullProgress = { readonly file: string; readonly bytes: { readonly done: number; readonly total: number | undefined } };

export type PullOptions = {
  readonly settings?: HubSettings;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: PullProgress) => void) | undefined;
  /** Called with the reason when something takes longer and the progress does not show why. */
  readonly onNotice?: ((notice: string) => void) | undefined;
};

/** A file in the hub's listing. */
type Listed = { readonly path: string; readonly size: number; readonly hash: NonNullable<Download["hash"]> };

/**
 * The path of a model on this machine: a GGUF file or a folder. What is not here is fetched first. What is already in the
 * folders of Hugging Face, LM Studio or Ollama is used as it is, without a request.
 *
 * @throws KvspliceError `bad_argument` if there is no such model, `unreachable`, `bad_file`, `no_space`, `cancelled`
 */
export async function pull(reference: ModelReference, options: PullOptions = {}): Promise<string> {
  const settings = options.settings ?? hubSettings();
  const here = findHere(reference, settings);
  if (here !== undefined) return here;
  switch (reference.kind) {
    case "path":
      return reference.path;
    case "ollama":
      throw new KvspliceError(
        "bad_argument",
        `Ollama has no model ${reference.name}:${reference.tag} in ${settings.ollamaDirs.join(" or ")}. Fetch it with: ollama pull ${reference.name}:${reference.tag}`,
      );
    case "hub":
      mustBeOnline(reference, settings);
      return pullFromHub(reference, settings, options);
    case "url":
      mustBeOnline(reference, settings);
      return pullUrl(reference, settings, options);
  }
}

/** Where a model already is on this machine; undefined if it would have to be fetched. */
export function findHere(reference: ModelReference, settings: HubSettings): string | undefined {
  switch (reference.kind) {
    case "path":
      return reference.path;
    case "ollama":
      return findInOllama(reference, settings);
    case "url": {
      const path = urlPath(reference, settings);
      return existsSync(path) ? path : undefined;
    }
    case "hub": {
      const cache = new RepoCache(settings.cacheDir, reference.repo);
      const commit = cache.commitOf(reference.revision);
      const chosen = commit === undefined ? undefined : choose(cache.filesOf(commit), reference.choice);
      if (chosen && isWhole(chosen, cache.filesOf(commit!))) return pathOf(chosen, cache.snapshot(commit!));
      return findOnShelves(reference, settings);
    }
  }
}

/** A folder without one of its shards is incomplete; `choose` already leaves out incomplete GGUF models. */
function isWhole(chosen: Chosen, files: readonly string[]): boolean {
  const shards = chosen.files.map((file) => /^model-\d{5}-of-(\d{5})\.safetensors$/.exec(file)?.[1]).filter((count) => count !== undefined);
  return (
    chosen.kind === "gguf" ||
    chosen.kind === "adapter" ||
    ((files.includes("tokenizer.json") || files.includes("tokenizer.model")) &&
      (shards.length === 0 || shards.length === Number(shards[0])))
  );
}

function pathOf(chosen: Chosen, folder: string): string {
  if (chosen.kind === "adapter") return join(folder, dirname(chosen.files[0]!));
  return chosen.kind === "folder" ? folder : join(folder, chosen.files[0]!);
}

async function pullFromHub(reference: HubReference, settings: HubSettings, options: PullOptions): Promise<string> {
  const fetch = await hubFetch(settings, options.signal);
  const { commit, files } = await list(reference, settings, fetch, options.signal);
  const chosen = choose(
    files.map(({ path }) => path),
    reference.choice,
  );
  if (!chosen)
    throw new KvspliceError(
      "bad_argument",
      `There is no ${printReference(reference)}. ${offered(
        files.map(({ path }) => path),
        reference.choice,
      )}`,
    );
  const cache = new RepoCache(settings.cacheDir, reference.repo);
  const wanted = chosen.files.map((path) => files.find((file) => file.path === path)!);
  const missing = wanted.filter((file) => !existsSync(cache.blob(file.hash.hex)) && !existsSync(join(cache.snapshot(commit), file.path)));
  await mustFit(
    missing.reduce((bytes, { size }) => bytes + size, 0),
    settings.cacheDir,
  );
  const total = wanted.reduce((bytes, { size }) => bytes + size, 0);
  let done = total - missing.reduce((bytes, { size }) => bytes + size, 0);
  for (const { path, size, hash } of missing) {
    const url = `${settings.endpoint}/${reference.repo}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
    const name = `${reference.repo}/${path}`;
    await download({ url, name, path: cache.blob(hash.hex), size, hash, hasToken: settings.token !== undefined }, fetch, {
      signal: options.signal,
      onBytes: (bytes) => options.onProgress?.({ file: path, bytes: { done: done + bytes, total } }),
      onWait: () => options.onNotice?.(`Another process is fetching ${name}; waiting for it.`),
    });
    done += size;
  }
  for (const { path, hash } of wanted) await cache.link(commit, path, hash.hex);
  await cache.setCommit(reference.revision, commit);
  return pathOf(chosen, cache.snapshot(commit));
}

/** The current commit of a revision, and its files. */
async function list({ repo, revision }: HubReference, { endpoint, token }: HubSettings, fetch: Fetch, signal: AbortSignal | undefined) {
  const { HubApiError, listFiles, modelInfo } = await import("@huggingface/hub");
  const designation = { hubUrl: endpoint, revision, fetch };
  const files: Listed[] = [];
  try {
    const { sha } = await modelInfo({ ...designation, name: repo, additionalFields: ["sha"] });
    if (!/^[0-9a-f]{40}$/.test(sha))
      throw new KvspliceError("unreachable", `${endpoint} does not report the commit of ${repo}@${revision}. Check HF_ENDPOINT.`);
    for await (const { type, path, size, oid, lfs } of listFiles({ ...designation, repo, revision: sha, recursive: true })) {
      const hash: Listed["hash"] = lfs ? { kind: "sha256", hex: lfs.oid } : { kind: "git", hex: oid ?? "" };
      if (type === "file" && isInside(path) && /^[0-9a-f]{40,64}$/.test(hash.hex)) files.push({ path, size: lfs?.size ?? size, hash });
    }
    return { commit: sha, files };
  } catch (error) {
    if (error instanceof HubApiError)
      throw refusalError(error.statusCode, `${repo}${revision === "main" ? "" : `@${revision}`}`, token !== undefined);
    throw connectionError(error, endpoint, signal);
  }
}

/** Whether a path in the listing, which is untrusted, stays within the folder that it is written to. */
function isInside(path: string): boolean {
  return path !== "" && !path.includes("\\") && path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

async function pullUrl(reference: UrlReference, settings: HubSettings, options: PullOptions): Promise<string> {
  const fetch = await hubFetch(settings, options.signal);
  const [path, url] = [urlPath(reference, settings), reference.url.href];
  const { size, version } = await headOf(url, fetch, options.signal);
  await mustFit(size ?? 0, settings.cacheDir);
  makeFolder(dirname(path));
  await writeFile(join(dirname(path), ADDRESS_FILE), `${url}\n`);
  await download({ url, name: url, path, size, version, hasToken: false }, fetch, {
    signal: options.signal,
    onBytes: (done) => options.onProgress?.({ file: basename(path), bytes: { done, total: size } }),
    onWait: () => options.onNotice?.(`Another process is fetching ${url}; waiting for it.`),
  });
  return path;
}

async function headOf(url: string, fetch: Fetch, signal: AbortSignal | undefined): Promise<Pick<Download, "size" | "version">> {
  const { ok, headers } = await fetch(url, { method: "HEAD" }).catch((error: unknown) => {
    throw connectionError(error, url, signal);
  });
  const length = headers.get("content-length");
  return ok
    ? { size: length === null ? undefined : Number(length), version: headers.get("etag") ?? headers.get("last-modified") ?? undefined }
    : {};
}

/** Where a file from outside the hub is kept: alongside the hub's repositories, under a hash of its address. */
function urlPath({ url }: UrlReference, { cacheDir }: HubSettings): string {
  const name = decodeURIComponent(basename(url.pathname)).replaceAll(/[^\w.-]/g, "_");
  return join(cacheDir, URLS, createHash("sha256").update(url.href).digest("hex").slice(0, 16), name);
}

function mustBeOnline(reference: ModelReference, settings: HubSettings): void {
  if (!settings.offline) return;
  const places = [settings.cacheDir, ...settings.lmStudioDirs, ...settings.ollamaDirs].filter((place) => existsSync(place));
  throw new KvspliceError(
    "unreachable",
    `${printReference(reference)} is not on this machine (looked in ${places.join(", ") || settings.cacheDir}), and HF_HUB_OFFLINE is set. Unset it to fetch the model.`,
  );
}

/** @throws KvspliceError `no_space` before anything is fetched, if it would not fit */
async function mustFit(bytes: number, folder: string): Promise<void> {
  makeFolder(folder);
  const { bavail, bsize } = await statfs(folder);
  if (bytes <= bavail * bsize) return;
  const gb = (value: number) => `${(value / 1e9).toFixed(1)} GB`;
  throw new KvspliceError(
    "no_space",
    `The model needs ${gb(bytes)}, but ${folder} has room for ${gb(bavail * bsize)}. Free some space, or change HF_HUB_CACHE.`,
  );
}
