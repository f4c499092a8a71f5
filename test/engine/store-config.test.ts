import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseStoreConfig, readStoreConfig } from "../../engine/index.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

const GB = 2 ** 30;

test.each([
  ["2GB", 2 * GB],
  ["0.5 gb", GB / 2],
  ["100", 100],
  [100, 100],
])("%j is %i bytes", (written, bytes) => {
  expect(parseStoreConfig({ memory: { budget: written } })).toEqual({ memory: { budget: bytes } });
});

test.each([
  [{ memory: { budget: "much" } }, /memory\.budget: "much" is not a number of bytes; write it like 2GB/],
  [{ memory: { budget: -1 } }, /memory\.budget/],
  [{ disk: {} }, /disk\.path/],
  [{ redis: { url: "http://localhost" } }, /redis\.url: give a URL such as redis:/],
  [{ tape: {} }, /tape/],
])("%j is refused, and the error names the setting", (config, message) => {
  expect(() => parseStoreConfig(config)).toThrow(message);
});

test("the command line overrides the environment, and the environment overrides the file", async () => {
  const file = join(await temporaryFolder(), "store.json");
  writeFileSync(
    file,
    JSON.stringify({
      memory: { budget: "1GB" },
      disk: { path: "/of/file", budget: "10GB" },
      redis: { url: "redis://of-file", prefix: "mine:" },
    }),
  );
  const environment = { KVSPLICE_STORE_CONFIG: file, KVSPLICE_STORE_DISK: "/of/environment", KVSPLICE_STORE_MEMORY: "2GB" };
  expect(readStoreConfig({ memory: "3GB", folder: "/of/corpus" }, environment)).toEqual({
    memory: { budget: 3 * GB },
    disk: { path: "/of/environment", budget: 10 * GB },
    redis: { url: "redis://of-file", prefix: "mine:" },
  });
});

test("without settings, there are 512 MiB of memory and the corpus's folder; a budget of 0 leaves a tier out", () => {
  expect(readStoreConfig({ folder: "here" }, {})).toEqual({ memory: { budget: GB / 2 }, disk: { path: "here" } });
  expect(readStoreConfig({ folder: "here", memory: "0", diskBudget: "0" }, {})).toEqual({});
});

test("an unreadable file is an error that names it", () => {
  expect(() => readStoreConfig({ config: "/nowhere.json" }, {})).toThrow(/\/nowhere\.json cannot be read/);
});
