import { describe, expect, test } from "vitest";

import { loadFile } from "../../rag/index.js";
import { loadHere } from "../../rag/load/load.js";

const ROWS = 8_000;
const rows = <T>(row: (index: number) => T) => Array.from({ length: ROWS }, (_, index) => row(index));
const text = (index: number) => `The ferry ${index} crosses in ${index % 7} minutes.`;

/** Files of more than 256 KiB, of kinds whose parsers cannot work in steps. */
const FILES = {
  "table.csv": ["title,minutes,where", ...rows((index) => `Ferry ${index},${index % 7},"Dollis, at the river"`)].join("\n"),
  "lines.jsonl": rows((index) => JSON.stringify({ title: `Ferry ${index}`, text: text(index) })).join("\n"),
  "broken.json": `[${rows((index) => JSON.stringify({ text: text(index) })).join(",")}`,
  "page.md": `# Ferries\n\n${rows(text).join("\n\n")}`,
};

describe("a large file", () => {
  test.each(Object.entries(FILES))("%s is read in a separate thread, with the same result as in this one", async (path, content) => {
    const bytes = Buffer.from(content);
    expect(bytes.length).toBeGreaterThan(256 * 1024);
    const here = await loadHere(path, bytes);
    expect(await loadFile(path, bytes)).toEqual(here);
  });

  test("does not block this thread: timers keep running", async () => {
    let turns = 0;
    const turning = setInterval(() => turns++, 1);
    await loadFile("table.csv", Buffer.from(FILES["table.csv"]));
    clearInterval(turning);
    expect(turns).toBeGreaterThan(10);
  });

  test("is abandoned at once when cancelled", async () => {
    const abort = new AbortController();
    const loading = loadFile("page.md", Buffer.from(FILES["page.md"].repeat(20)), { signal: abort.signal });
    setTimeout(() => abort.abort(), 50);
    await expect(loading).rejects.toMatchObject({ code: "cancelled" });
    await expect(loadFile("page.md", Buffer.from(FILES["page.md"]), { signal: abort.signal })).rejects.toMatchObject({ code: "cancelled" });
  });
});
