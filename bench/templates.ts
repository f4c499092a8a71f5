/**
 * Prints which chat templates can be framed, and why the others are refused, and how they write tool calls and results:
 *
 *     npx tsx bench/templates.ts FOLDER_OF_JINJA_FILES...
 *
 * Frames are checked against whole renderings when they are found, so a template listed as framed is right for
 * conversations with and without a system message.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createChatTemplate } from "../engine/model/chat-template.js";

const folders = process.argv.slice(2);
const files = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".jinja"))
    .sort()
    .map((name) => join(folder, name)),
);
let framed = 0;
console.log("| template | framed | answers begin after | thinks | calls | results |\n|---|---|---|---|---|---|");
for (const file of files) {
  const name = basename(file, ".jinja");
  try {
    const { generationPrompt, thought, tools } = createChatTemplate({
      source: readFileSync(file, "utf8"),
      bos: "<bos>",
      eos: "<eos>",
      addBos: false,
    });
    framed++;
    console.log(
      `| ${name} | yes | \`${JSON.stringify(generationPrompt)}\` | ${thought ? (thought.begun ? "always" : "only if it begins to") : ""} | ${tools?.calls ?? ""} | ${tools ? (tools.turns ? "separate turns" : "the user's turn") : ""} |`,
    );
  } catch (error) {
    console.log(`| ${name} | no: ${(error as Error).message} | | | | |`);
  }
}
console.log(`\n${framed} of ${files.length} framed.`);
