import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { heldModels, isHeldSound, removeHeld } from "../../../engine/model/hub/held.js";
import { type HubSettings, hubSettings } from "../../../engine/model/hub/settings.js";

const COMMITS = ["0".repeat(40), "1".repeat(40)] as const;

let home: string;
let settings: HubSettings;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-held-"));
  settings = hubSettings({ HOME: home });
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function write(path: string, content: string): void {
  mkdirSync(dirname(join(home, path)), { recursive: true });
  writeFileSync(join(home, path), content);
}

const sha256 = (content: string) => createHash("sha256").update(content).digest("hex");
const REPO = ".cache/huggingface/hub/models--acme--tiny-GGUF";

/** Writes a file of a commit in huggingface_hub's layout. */
function writeSnapshot(commit: string, path: string, content: string): void {
  write(`${REPO}/blobs/${sha256(content)}`, content);
  const link = join(home, REPO, "snapshots", commit, path);
  mkdirSync(dirname(link), { recursive: true });
  symlinkSync(join(home, REPO, "blobs", sha256(content)), link);
}

function writeOllama(name: string, content: string): void {
  write(`.ollama/models/blobs/sha256-${sha256(content)}`, content);
  write(
    `.ollama/models/manifests/${name}`,
    JSON.stringify({ layers: [{ mediaType: "application/vnd.ollama.image.model", digest: `sha256:${sha256(content)}` }] }),
  );
}

const named = (name: string) => heldModels(settings).find((model) => model.name === name)!;

test("lists the models in all folders by the names that open them, with their sizes", () => {
  write(`${REPO}/refs/main`, COMMITS[1]);
  writeSnapshot(COMMITS[0], "tiny-Q8_0.gguf", "old");
  writeSnapshot(COMMITS[1], "tiny-Q8_0.gguf", "newer");
  writeSnapshot(COMMITS[1], "mmproj-tiny.gguf", "projector");
  writeSnapshot(COMMITS[1], "BF16/tiny-BF16-00001-of-00002.gguf", "half");
  writeSnapshot(COMMITS[1], "BF16/tiny-BF16-00002-of-00002.gguf", "the rest");
  writeSnapshot(COMMITS[1], "tiny-F16-00001-of-00002.gguf", "without its other part");
  write(".lmstudio/models/acme/small-GGUF/small.gguf", "1234567");
  writeOllama("registry.ollama.ai/library/llama3.2/1b", "ollama's");
  writeOllama("hf.co/acme/tiny-GGUF/Q4_K_M", "through ollama");
  expect(heldModels(settings).map(({ name, keeper, bytes }) => [name, keeper, bytes])).toEqual([
    [`hf:acme/small-GGUF:small.gguf`, "lm studio", 7],
    [`hf:acme/tiny-GGUF:BF16`, "hugging face", 12],
    [`hf:acme/tiny-GGUF:Q8_0`, "hugging face", 5],
    [`hf:acme/tiny-GGUF@${COMMITS[0]}:Q8_0`, "hugging face", 3],
    ["ollama:hf.co/acme/tiny-GGUF:Q4_K_M", "ollama", 14],
    ["ollama:llama3.2:1b", "ollama", 8],
  ]);
});

test("a file shared by two commits is kept as long as one of them remains", () => {
  write(`${REPO}/refs/main`, COMMITS[1]);
  for (const commit of COMMITS) writeSnapshotLink(commit);
  removeHeld(named("hf:acme/tiny-GGUF:Q8_0"));
  expect(readdirSync(join(home, REPO, "blobs"))).toEqual([sha256("same")]);
  removeHeld(named(`hf:acme/tiny-GGUF@${COMMITS[0]}:Q8_0`));
  expect(readdirSync(join(home, REPO, "blobs"))).toEqual([]);
});

function writeSnapshotLink(commit: string): void {
  writeSnapshot(commit, "tiny-Q8_0.gguf", "same");
}

test("does not remove other programs' models", () => {
  write(".lmstudio/models/acme/small-GGUF/small.gguf", "x");
  writeOllama("registry.ollama.ai/library/llama3.2/1b", "y");
  expect(() => removeHeld(named("hf:acme/small-GGUF:small.gguf"))).toThrow("belongs to LM Studio. Remove it there");
  expect(() => removeHeld(named("ollama:llama3.2:1b"))).toThrow("ollama rm llama3.2:1b");
  expect(existsSync(join(home, ".lmstudio/models/acme/small-GGUF/small.gguf"))).toBe(true);
});

test("checks files against the hashes in their names, if there are any", async () => {
  write(`${REPO}/refs/main`, COMMITS[0]);
  writeSnapshot(COMMITS[0], "tiny-Q8_0.gguf", "whole");
  writeOllama("registry.ollama.ai/library/llama3.2/1b", "whole");
  write(".lmstudio/models/acme/small-GGUF/small.gguf", "x");
  expect(await isHeldSound(named("hf:acme/tiny-GGUF:Q8_0"))).toBe(true);
  expect(await isHeldSound(named("ollama:llama3.2:1b"))).toBe(true);
  expect(await isHeldSound(named("hf:acme/small-GGUF:small.gguf"))).toBeUndefined();
  write(`${REPO}/blobs/${sha256("whole")}`, "whale");
  expect(await isHeldSound(named("hf:acme/tiny-GGUF:Q8_0"))).toBe(false);
});
