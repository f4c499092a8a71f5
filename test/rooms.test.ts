import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { globSync } from "tinyglobby";
import { expect, test } from "vitest";

/** What each room may import of the others: only their doors (`index.ts`), and only downwards. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  plan: [],
  storage: ["plan/index"],
  runtime: ["plan/index"],
  engine: ["plan/index", "storage/index", "runtime/index", "runtime/thread"],
  grammar: ["plan/index", "engine/index"],
  pml: ["plan/index"],
  chat: ["plan/index", "storage/index"],
  rag: ["plan/index", "runtime/index", "runtime/thread", "engine/index", "grammar/index"],
  client: [],
  fleet: ["plan/index", "engine/index", "rag/index"],
  adapters: ["engine/index", "grammar/index", "rag/index", "chat/index"],
  server: ["plan/index", "engine/index", "grammar/index", "pml/index", "rag/index", "chat/index"],
  cli: [
    "plan/index",
    "runtime/index",
    "engine/index",
    "grammar/index",
    "pml/index",
    "rag/index",
    "fleet/index",
    "chat/index",
    "server/index",
  ],
};

const root = fileURLToPath(new URL("..", import.meta.url));

test.each(Object.entries(MAY_IMPORT))("%s imports only %j from other rooms", (room, known) => {
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

test("only runtime imports ONNX Runtime, so that it is never loaded with telemetry on", () => {
  const importing = globSync("{plan,storage,engine,grammar,adapters,pml,chat,rag,fleet,server,cli}/**/*.ts", { cwd: root }).filter((file) =>
    /"onnxruntime-/.test(readFileSync(join(root, file), "utf8")),
  );
  expect(importing).toEqual([]);
});

test("a plain server loads nothing for Redis, a queue, a bucket, a collector or Markdown until it is needed", () => {
  const packages = new Set<string>();
  const files = new Set<string>();
  const follow = (file: string): void => {
    if (files.has(file) || !existsSync(join(root, file))) return; // generated files have no source here
    files.add(file);
    for (const [, target] of readFileSync(join(root, file), "utf8").matchAll(/^(?:import|export)(?! type)[^;]*?from "([^"]+)"/gm)) {
      if (target!.startsWith(".")) follow(normalize(join(dirname(file), target!.replace(/\.js$/, ".ts"))));
      else packages.add(target!);
    }
  };
  follow("cli/serve.ts");
  expect(packages).toContain("hono"); // imports were followed
  const heavy = /^(bullmq|ioredis|aws4fetch|@opentelemetry\/(?!api$)|mdast|micromark)/;
  expect([...packages].filter((name) => heavy.test(name))).toEqual([]);
});
