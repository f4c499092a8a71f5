import { spawnSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Chunks } from "../rag/index.js";
import { makePdf } from "./support/rag/make-pdf.js";
import { temporaryFolder } from "./support/rag/temporary-folder.js";
import { withoutPackage } from "./support/without-package.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PROGRAM = "test/support/rag/precompute-process.ts";

function run(options: readonly string[], ...args: readonly string[]): { stdout: string; stderr: string } {
  const { stdout, stderr } = spawnSync(process.execPath, [...options, ...args], { cwd: ROOT, encoding: "utf8" });
  return { stdout, stderr };
}

test("without pdfjs-dist a PDF is reported with the command that installs it, and read by the next run that has it", async () => {
  const root = await temporaryFolder();
  const [store, docs] = [join(root, "store"), join(root, "docs")];
  await mkdir(docs);
  await writeFile(join(docs, "keeper.pdf"), makePdf([["Mary Ellis kept the lighthouse at Gull Point for forty years."]]));
  await writeFile(join(docs, "harbour.md"), "# Harbour\n\nThe harbour was built in 1901.");
  const files = async () => {
    const chunks = await Chunks.open(store);
    const refs = [...chunks.files()].map(({ path }) => path.slice(docs.length + 1));
    await chunks.close();
    return refs.sort();
  };

  const { stdout } = run(withoutPackage("pdfjs-dist"), PROGRAM, store, docs);
  expect(stdout).toMatch(/keeper\.pdf.*not installed.*npm install pdfjs-dist@~5\.4/);
  expect(await files()).toEqual(["harbour.md"]);

  expect(run(["--import", "tsx"], PROGRAM, store, docs).stdout).not.toContain("not installed");
  expect(await files()).toEqual(["harbour.md", "keeper.pdf"]);

  // It has not changed since: what is stored of it stays, whether its reader is there or not.
  run(withoutPackage("pdfjs-dist"), PROGRAM, store, docs);
  expect(await files()).toEqual(["harbour.md", "keeper.pdf"]);
});

test("without bullmq, whatever needs a queue names the command that installs it", () => {
  const script = `import { openElsewhere, openFleet, startWorker } from "./fleet/index.ts";
    for (const open of [openElsewhere, openFleet, startWorker])
      await open({ url: "redis://127.0.0.1:1", model: {} }).catch(({ code, message }) => console.log(code, message));`;
  const { stdout, stderr } = run([...withoutPackage("bullmq"), "--input-type=module"], "-e", script);
  const named = "bad_argument .*bullmq, which is not installed.*npm install bullmq@6\n";
  expect({ stdout, stderr }).toEqual({ stdout: expect.stringMatching(new RegExp(`^(${named}){3}$`)), stderr: "" });
});
