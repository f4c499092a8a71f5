import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Within the checkout, so that packages are found by name as in a user's program. */
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(root, ".examples-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The compiler's output for a program, compiled as in a user's strict project. */
function compile(name: string, program: string): string {
  writeFileSync(join(folder, name), program);
  const options = ["--strict", "--skipLibCheck", "false", "--noEmit", "--module", "nodenext", "--target", "es2023", "--types", "node"];
  return spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...options, "--ignoreConfig", join(folder, name)], {
    cwd: root,
    encoding: "utf8",
  }).stdout;
}

test("every entry point has types that pass a strict project's checks", () => {
  const { exports, peerDependencies = {} } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    exports: Record<string, object | string>;
    peerDependencies?: Record<string, string>;
  };
  const own = Object.entries(exports).flatMap(([path, entry]) => (typeof entry === "object" ? [path] : []));
  // Code written against a peer dependency uses the peer's types, which are not ours to check.
  const adapters = Object.keys(peerDependencies).length > 0 ? ["./ai-sdk", "./langchain", "./llamaindex"] : [];
  const names = own.filter((path) => !adapters.includes(path)).map((path) => path.replace(/^\./, "kvsplice"));
  expect(names).toEqual(
    expect.arrayContaining([
      "kvsplice",
      "kvsplice/chat",
      "kvsplice/engine",
      "kvsplice/rag",
      "kvsplice/pml",
      "kvsplice/fleet",
      "kvsplice/client",
    ]),
  );
  const program = names.map((name, i) => `import * as all${i} from "${name}";\nconsole.log(all${i});\n`).join("");
  expect(compile("whole.mts", program)).toBe("");
});

test("the first example of docs/server.md compiles in a strict project", () => {
  const [, program] = /```ts\n([^]*?)```/.exec(readFileSync(join(root, "docs/server.md"), "utf8"))!;
  expect(program).toContain("corpus:");
  expect(compile("server.mts", program!)).toBe("");
  expect(compile("wrong.mts", program!.replace("documents: 4", 'documents: "4"'))).toMatch(/not assignable to type 'number/);
});
