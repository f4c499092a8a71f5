import { expect, test } from "vitest";
import { globSync } from "tinyglobby";
import { readFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

/** What each room may know of the others: their doors (`index.ts`), and no arrow points up. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  plan: [],
  storage: ["plan/index"],
  runtime: ["plan/index"],
  engine: ["plan/index", "storage/index", "runtime/index"],
  pml: ["plan/index"],
  chat: ["plan/index", "storage/index"],
  rag: ["plan/index", "runtime/index", "engine/index"],
  fleet: ["plan/index", "engine/index", "rag/index"],
  server: ["plan/index", "engine/index", "pml/index", "rag/index", "chat/index"],
  cli: ["plan/index", "engine/index", "pml/index", "rag/index", "fleet/index", "chat/index", "server/index"],
};

const root = fileURLToPath(new URL("..", import.meta.url));

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

test.each(["plan", "pml"])("%s loads without a native module", (room) => {
  const script = `await import(${JSON.stringify(`./dist/${room}/index.js`)});
    console.log(JSON.stringify(process.report.getReport().sharedObjects.filter((path) => path.endsWith(".node"))));`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { cwd: root, encoding: "utf8" });
  expect({ stderr, native: stdout.trim() }).toEqual({ stderr: "", native: "[]" });
});

test("runtime alone imports ONNX Runtime, so that none of it is loaded with its telemetry on", () => {
  const importing = globSync("{plan,storage,engine,pml,chat,rag,fleet,server,cli}/**/*.ts", { cwd: root }).filter((file) => /"onnxruntime-/.test(readFileSync(join(root, file), "utf8")));
  expect(importing).toEqual([]);
});
