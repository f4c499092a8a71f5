import { expect, test } from "vitest";
import { modelName } from "../../../engine/model/files/name.js";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const HASH = "a".repeat(64);

test.each([
  ["/models/tiny-Q4_K_M.gguf", "tiny-Q4_K_M"],
  ["/models/tiny-00001-of-00003.gguf", "tiny"],
  ["/models/tiny", "tiny"],
  ["/models/tiny/", "tiny"],
  [`/hub/models--acme--tiny-0.6B/snapshots/${COMMIT}`, "tiny-0.6B"],
  [`/hub/models--acme--tiny-GGUF/snapshots/${COMMIT}/tiny-Q8_0.gguf`, "tiny-Q8_0"],
  [`/ollama/blobs/sha256-${HASH}`, "Tiny 1B"],
])("the model at %s is called %s", (path, name) => {
  expect(modelName(path, { "general.name": "Tiny 1B" })).toBe(name);
});
