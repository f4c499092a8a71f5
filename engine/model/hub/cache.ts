import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { makeFolder } from "../../../storage/index.js";

/**
 * Hugging Face's cache of one repository, in the layout of `huggingface_hub`: `blobs/HASH` are the files,
 * `snapshots/COMMIT/PATH` links to them, and `refs/REVISION` contains the commit of a branch or tag.
 */
export class RepoCache {
  readonly folder: string;

  constructor(cacheDir: string, repo: string) {
    this.folder = join(cacheDir, `models--${repo.replaceAll("/", "--")}`);
  }

  blob(hash: string): string {
    return join(this.folder, "blobs", hash);
  }

  snapshot(commit: string): string {
    return join(this.folder, "snapshots", commit);
  }

  /** The commit that a revision last pointed to. */
  commitOf(revision: string): string | undefined {
    if (/^[0-9a-f]{40}$/.test(revision) && existsSync(this.snapshot(revision))) return revision;
    try {
      return readFileSync(join(this.folder, "refs", revision), "utf8").trim() || undefined;
    } catch {
      return undefined;
    }
  }

  /** Paths of a commit's files that are completely here. */
  filesOf(commit: string): string[] {
    return filesUnder(this.snapshot(commit));
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const path = join(this.folder, "refs", revision);
    makeFolder(dirname(path));
    await writeFile(path, commit);
  }

  /** Registers a blob as a file of a commit. */
  async link(commit: string, path: string, hash: string): Promise<void> {
    const pointer = join(this.snapshot(commit), path);
    if (existsSync(pointer)) return;
    makeFolder(dirname(pointer));
    await rm(pointer, { force: true }); // a link whose blob has been removed
    await symlink(relative(dirname(pointer), this.blob(hash)), pointer).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") return; // another process made it in the meantime
      // Windows lets only some users create links; huggingface_hub also keeps the file itself in that case.
      await rename(this.blob(hash), pointer);
    });
  }
}

/** Paths of all files under a folder, relative to it, without dangling links. */
export function filesUnder(folder: string): string[] {
  let entries: string[];
  try {
    entries = readdirSync(folder, { recursive: true, encoding: "utf8" });
  } catch {
    return [];
  }
  return entries
    .filter((entry) => statSync(join(folder, entry), { throwIfNoEntry: false })?.isFile())
    .map((entry) => entry.replaceAll("\\", "/"));
}
