/**
 * Imports every schema and prompt of a checkout of Prompt Cache (https://github.com/yale-sys/prompt-cache) without
 * manual changes, and checks the results:
 *
 *     npx tsx bench/prompt-cache-import.ts ../prompt-cache
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { globSync } from "tinyglobby";
import { loadTokenizer } from "../engine/index.js";
import { compileMarkup, folderFiles, importPromptCache, openMarkup } from "../pml/index.js";

const checkout = process.argv[2];
if (checkout === undefined) {
  console.error("Name the checkout: npx tsx bench/prompt-cache-import.ts DIR");
  process.exit(1);
}
const { tokenizer, chat, contextLength } = await loadTokenizer();
const rows = globSync("**/*.xml", { cwd: checkout })
  .sort()
  .map((path) => {
    try {
      const { markup, notes } = importPromptCache(readFileSync(join(checkout, path), "utf8"), path);
      const opened = openMarkup(markup, { file: path, files: folderFiles(checkout) });
      const { files, diagnostics } = compileMarkup(opened.kind === "schema" ? [opened] : [], {
        language: { tokenizer, chat, contextLength, linkTokens: [] },
      });
      const errors = [...opened.diagnostics, ...diagnostics].filter(({ severity }) => severity === "error").length;
      return { path, kind: opened.kind, positions: files[0]?.layout?.length ?? "", notes: notes.length, errors };
    } catch (error) {
      return { path, kind: "refused", positions: "", notes: 0, errors: (error as Error).message.split("\n").length };
    }
  });
console.table(rows);
const failed = rows.filter(({ errors }) => errors > 0).length;
console.log(`${rows.length} files, ${failed} with errors.`);
process.exitCode = failed > 0 ? 1 : 0;
