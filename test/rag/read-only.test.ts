import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, readdirSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout } from "node:timers/promises";

import { describe, expect, onTestFinished, test } from "vitest";

import { openBlockStore } from "../../engine/index.js";
import { openCorpus } from "../../rag/index.js";
import { mountReadOnly, OTHER_USER } from "../support/other-user.js";
import { fakeEmbedder, fakeModel } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

const PROGRAM = join(import.meta.dirname, "../support/rag/reading-process.ts");
const FILES = 5;

/** A corpus that its owner has open, in a folder that all may read and only the owner may write. */
async function setUp() {
  const root = await temporaryFolder();
  const [dir, docs] = [join(root, "store"), join(root, "docs")];
  await mkdir(docs);
  const write = (file: number, words: string) =>
    writeFile(join(docs, `${file}.jsonl`), JSON.stringify({ title: `File ${file}`, text: `The text ${file} of many ${words}` }));
  for (let file = 0; file < FILES; file++) await write(file, "");
  const store = openBlockStore({ disk: { path: dir } });
  const corpus = await openCorpus(dir, { model: fakeModel(), store, embedder: fakeEmbedder(), create: true });
  onTestFinished(async () => {
    await corpus.close();
    await store.close();
  });
  const precompute = () => corpus.precompute([docs]);
  await precompute();
  chmodSync(root, 0o755);
  chmodSync(dir, 0o755);
  for (const file of readdirSync(dir)) chmodSync(join(dir, file), file === "index" ? 0o755 : 0o644);
  return { dir, write, precompute };
}

/** What another process finds there while `meanwhile` runs. */
async function readBy(
  dir: string,
  user: { uid: number; gid: number } | undefined,
  meanwhile: () => Promise<unknown> = async () => undefined,
) {
  const env = { ...process.env, HOME: "/nonexistent", TMPDIR: "/tmp", TSX_DISABLE_CACHE: "1" };
  const child = spawn(process.execPath, ["--import", "tsx", PROGRAM, dir], { ...user, env, stdio: ["ignore", "pipe", "pipe"] });
  const errors = text(child.stderr);
  const [first] = (await Promise.race([once(child.stdout, "data"), once(child, "close").then(() => [""])])) as [Buffer | string];
  const rest = text(child.stdout);
  await meanwhile();
  const output = `${first}${await rest}`;
  expect(await errors).toBe("");
  return JSON.parse(output.replace("open\n", "")) as Record<string, unknown>;
}

const TITLES = Array.from({ length: FILES }, (_, file) => `File ${file}`);
const answered = {
  titles: TITLES,
  missing: 0,
  text: "a fake answer",
  changes: ["bad_store", "bad_store"],
  kept: true,
  told: ["The store is read-only: new KV is kept in memory, as long as there is room and this process runs."],
};

describe("a read-only corpus answers, and keeps new data in memory", () => {
  test.skipIf(!OTHER_USER)(
    "another user's, which is open and changes meanwhile (skipped if this user may not act as another)",
    async () => {
      const { dir, write, precompute } = await setUp();
      const changing = async () => {
        for (let round = 0; round < 10; round++) {
          await write(round % FILES, `and ${round} more`);
          await precompute();
          await setTimeout(20);
        }
      };
      // Blocks that its owner has just removed may be missing: they are encoded again, as anywhere else.
      expect(await readBy(dir, OTHER_USER, changing)).toEqual({ ...answered, missing: expect.any(Number) });
    },
  );

  const canMount = OTHER_USER !== undefined && process.platform === "linux";
  test.skipIf(!canMount)("on a read-only mount (skipped if this user may not mount)", async ({ skip }) => {
    const { dir } = await setUp();
    const at = mountReadOnly(dir);
    if (at === undefined) return skip();
    onTestFinished(() => void execFileSync("umount", ["-l", at]));
    expect(await readBy(at, undefined)).toEqual(answered);
  });
});
