import { expect, test } from "vitest";
import { globSync } from "tinyglobby";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

/**
 * What each room may know of the others: their doors (`index.ts`). A prompt is written without a model, so pml and
 * chat know the engine's contract alone; its door would load ONNX Runtime.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  engine: [],
  pml: ["engine/plan", "engine/tokenizer", "engine/chat", "engine/error"],
  rag: ["engine/index"],
  fleet: ["engine/index", "rag/index"],
  chat: ["engine/plan", "engine/tokenizer", "engine/chat", "engine/error", "engine/lmdb-file"],
  server: ["engine/index", "pml/index", "rag/index", "chat/index"],
  cli: ["engine/index", "pml/index", "rag/index", "fleet/index", "chat/index", "server/index"],
};

const root = new URL("..", import.meta.url).pathname;

test.each(Object.entries(MAY_IMPORT))("%s knows %j and nothing else of other rooms", (room, known) => {
  const wrong: string[] = [];
  for (const file of globSync(`${room}/**/*.ts`, { cwd: root })) {
    for (const [, target] of readFileSync(join(root, file), "utf8").matchAll(/(?:from|import\() ?"(\.[^"]+)"/g)) {
      const path = normalize(join(dirname(file), target!));
      const other = path.split("/")[0]!;
      if (other !== room && !known.some((name) => path === `${name}.js`)) wrong.push(`${file} imports ${path}`);
    }
  }
  expect(wrong).toEqual([]);
});
