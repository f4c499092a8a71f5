import { createHash } from "node:crypto";
import { createReadStream, lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { KvspliceError } from "../../../plan/index.js";
import { filesUnder, RepoCache } from "./cache.js";
import { type Chosen, models } from "./choose.js";
import type { HubSettings } from "./settings.js";
import { ollamaModels } from "./shelves.js";

/** The program or source whose folder a model is in. */
export type Keeper = "hugging face" | "address" | "lm studio" | "ollama";

/** A model on this machine that has a name. */
export type HeldModel = {
  /** In the form that `--model` takes. */
  readonly name: string;
  readonly keeper: Keeper;
  /** The path for `loadModel`. */
  readonly path: string;
  readonly files: readonly string[];
  readonly bytes: number;
};

/** All models in the hub's cache and in other programs' folders, by name. */
export function heldModels(settings: HubSettings): readonly HeldModel[] {
  const found = [
    ...fromHub(settings),
    ...fromAddresses(settings),
    ...fromLmStudio(settings),
    ...ollamaModels(settings).map(({ name, path }) => held(name, "ollama", path, [path])),
  ];
  return found.sort((a, b) => a.name.localeCompare(b.name));
}

/**
 * Removes a model's files.
 * @throws KvspliceError `bad_argument` for a model that another program manages
 */
export function removeHeld(model: HeldModel): void {
  switch (model.keeper) {
    case "lm studio":
      throw new KvspliceError("bad_argument", `${model.name} belongs to LM Studio. Remove it there, or delete ${model.path}.`);
    case "ollama":
      throw new KvspliceError(
        "bad_argument",
        `${model.name} belongs to Ollama. Remove it with: ollama rm ${model.name.replace(/^ollama:/, "")}`,
      );
    case "address":
      rmSync(dirname(model.path), { recursive: true });
      return;
    case "hugging face":
      for (const file of model.files) removeLink(file);
  }
}

/** Whether a model's files have the hashes in their names; undefined if there are no hashes. */
export async function isHeldSound(model: HeldModel): Promise<boolean | undefined> {
  const results = await Promise.all(model.files.map(isFileSound));
  if (results.includes(false)) return false;
  return results.includes(undefined) ? undefined : true;
}

/** The hub's cache and Ollama name a file by its hash: SHA-256, or Git's hash for a small file. */
async function isFileSound(path: string): Promise<boolean | undefined> {
  const real = realpathSync(path);
  const hex = /^(?:sha256-)?([0-9a-f]{64}|[0-9a-f]{40})$/.exec(basename(real))?.[1];
  if (hex === undefined) return undefined;
  const hash = hex.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${statSync(real).size}\0`);
  await pipeline(createReadStream(real, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex") === hex;
}

function held(name: string, keeper: Keeper, path: string, files: readonly string[]): HeldModel {
  return { name, keeper, path, files, bytes: files.reduce((bytes, file) => bytes + statSync(file).size, 0) };
}

function fromHub({ cacheDir }: HubSettings): HeldModel[] {
  return foldersIn(cacheDir, /^models--/).flatMap((folder) => {
    const repo = folder.replace("models--", "").replace("--", "/");
    const cache = new RepoCache(cacheDir, repo);
    const revisions = new Map(filesUnder(join(cache.folder, "refs")).map((revision) => [cache.commitOf(revision), revision]));
    return foldersIn(join(cache.folder, "snapshots"), /^[0-9a-f]{40}$/).flatMap((commit) => {
      const revision = revisions.get(commit) ?? commit;
      const place = `hf:${repo}${revision === "main" ? "" : `@${revision}`}`;
      return inFolder(place, "hugging face", cache.snapshot(commit));
    });
  });
}

function fromLmStudio({ lmStudioDirs }: HubSettings): HeldModel[] {
  return lmStudioDirs.flatMap((root) =>
    foldersIn(root, /./).flatMap((owner) =>
      foldersIn(join(root, owner), /./).flatMap((name) => inFolder(`hf:${owner}/${name}`, "lm studio", join(root, owner, name))),
    ),
  );
}

function inFolder(place: string, keeper: Keeper, folder: string): HeldModel[] {
  return models(filesUnder(folder)).map(({ chosen, label }) =>
    held(
      label === undefined ? place : `${place}:${label}`,
      keeper,
      pathOf(chosen, folder),
      chosen.files.map((file) => join(folder, file)),
    ),
  );
}

function pathOf(chosen: Chosen, folder: string): string {
  return chosen.kind === "folder" ? folder : join(folder, chosen.files[0]!);
}

/** The address of a file is stored next to it. */
function fromAddresses({ cacheDir }: HubSettings): HeldModel[] {
  const root = join(cacheDir, URLS);
  return foldersIn(root, /./).flatMap((folder) => {
    const [file] = filesUnder(join(root, folder)).filter((each) => /\.gguf$/i.test(each));
    if (file === undefined) return [];
    const path = join(root, folder, file);
    return [held(readFileSync(join(root, folder, ADDRESS_FILE), "utf8").trim(), "address", path, [path])];
  });
}

export const URLS = "kvsplice--urls";
export const ADDRESS_FILE = "address";

function foldersIn(folder: string, name: RegExp): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() && name.test(entry.name) ? [entry.name] : [],
    );
  } catch {
    return [];
  }
}

/** Removes a snapshot's link, and its blob if no other snapshot of the repository uses it. */
function removeLink(path: string): void {
  const blob = lstatSync(path).isSymbolicLink() ? resolve(dirname(path), readlinkSync(path)) : undefined;
  rmSync(path);
  if (blob === undefined) return;
  const snapshots = join(dirname(dirname(blob)), "snapshots");
  const isWanted = readdirSync(snapshots, { recursive: true, encoding: "utf8" }).some((entry) => {
    const other = join(snapshots, entry);
    return lstatSync(other).isSymbolicLink() && resolve(dirname(other), readlinkSync(other)) === blob;
  });
  if (!isWanted) rmSync(blob, { force: true });
}
