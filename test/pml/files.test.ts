import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, describe as suite, test } from "vitest";
import { schema as build, checkSchema, folderFiles, importSchema, module, readPrompt, readSchema } from "../../pml/index.js";
import { mapFiles } from "../support/pml/compiling.js";

let outer: string;
let folder: string;

beforeEach(() => {
  outer = mkdtempSync(join(tmpdir(), "pml-"));
  folder = join(outer, "schemas");
  mkdirSync(join(folder, "parts"), { recursive: true });
  writeFileSync(join(outer, "secret.md"), "secret");
});
afterEach(() => rmSync(outer, { recursive: true }));

function write(path: string, content: string | Uint8Array): string {
  const file = join(folder, path);
  writeFileSync(file, content);
  return file;
}

function codes(file: string, options?: Parameters<typeof readSchema>[1]): string[] {
  return readSchema(file, options).diagnostics.map(({ code }) => code);
}

suite("files of a schema", () => {
  test("paths are relative to the file that names them", () => {
    write("parts/deep.pml", `<schema name="deep"><module name="m" src="m.md"/><module name="n" src="../n.md"/></schema>`);
    write("parts/m.md", "the part's");
    write("n.md", "the schema's");
    const { schema, written, diagnostics } = readSchema(write("s.pml", `<schema name="s"><import schema="parts/deep.pml"/></schema>`));
    expect(diagnostics).toEqual([]);
    expect(schema?.children).toMatchObject([
      { children: [{ kind: "file", text: "the part's" }] },
      { children: [{ text: "the schema's" }] },
    ]);
    expect(written?.children).toMatchObject([{ kind: "import", schema: "parts/deep.pml" }]);
  });

  test.for([
    ["a path upwards", "../secret.md"],
    ["a path upwards and down again", "parts/../../secret.md"],
    ["a link to a file", "link.md"],
    ["a file behind a link to a folder", "away/secret.md"],
  ] as const)("no file is read outside the schema's folder: %s", ([, src]) => {
    symlinkSync(join(outer, "secret.md"), join(folder, "link.md"));
    symlinkSync(outer, join(folder, "away"));
    const file = write("s.pml", `<schema name="s"><module name="m" src="${src}"/></schema>`);
    expect(codes(file)).toEqual(["outside-folder"]);
    expect(readSchema(file, { allowOutside: true }).schema?.children).toMatchObject([{ children: [{ text: "secret" }] }]);
  });

  test("nor by an absolute path, nor by a path of an imported schema", () => {
    expect(codes(write("s.pml", `<schema name="s"><module name="m" src="${join(outer, "secret.md")}"/></schema>`))).toEqual([
      "outside-folder",
    ]);
    write("parts/t.pml", `<schema name="t"><module name="m" src="../../secret.md"/></schema>`);
    const [diagnostic] = readSchema(write("s.pml", `<schema name="s"><import schema="parts/t.pml"/></schema>`)).diagnostics;
    expect(diagnostic).toMatchObject({ code: "outside-folder", place: { file: join(folder, "parts/t.pml"), line: 1, column: 40 } });
  });

  test("a folder whose name begins like the schema's is a different folder", () => {
    mkdirSync(`${folder}-other`);
    writeFileSync(`${folder}-other/x.md`, "x");
    expect(codes(write("s.pml", `<schema name="s"><module name="m" src="../schemas-other/x.md"/></schema>`))).toEqual(["outside-folder"]);
  });

  test("only files are read: no folders, pipes or paths that cannot exist", () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    const problems = ["parts", "pipe", "no\0", "x".repeat(5_000), ".", ""].map((path) => {
      const read = folderFiles(folder).read(path, join(folder, "s.pml"));
      return "problem" in read && read.problem;
    });
    const unreadable = "unreadable-file";
    // the last two are the folder itself, which is not inside the folder
    expect(problems).toEqual([unreadable, unreadable, unreadable, unreadable, "outside-folder", "outside-folder"]);
  });

  test("bytes that are not UTF-8 are reported, in schemas, prompts and sources", () => {
    const latin1 = Buffer.from([0x3c, 0x73, 0xe9, 0x3e]);
    const file = write("s.pml", latin1);
    expect(codes(file)).toEqual(["bad-encoding"]);
    expect(readPrompt(file).diagnostics.map(({ code }) => code)).toEqual(["bad-encoding"]);
    expect(codes(write("t.pml", `<schema name="s"><module name="m" src="s.pml"/></schema>`))).toEqual(["bad-encoding"]);
  });

  test("a missing schema or prompt is reported", () => {
    expect(codes(join(folder, "none.pml"))).toEqual(["unreadable-file"]);
    expect(readPrompt(join(folder, "none.pml")).diagnostics.map(({ code }) => code)).toEqual(["unreadable-file"]);
  });

  test("a file that is too large is not read", () => {
    write("large.md", Buffer.alloc(16 * 1024 * 1024 + 1, 0x61));
    expect(codes(write("s.pml", `<schema name="s"><module name="m" src="large.md"/></schema>`))).toEqual(["too-large"]);
  });
});

suite("imports", () => {
  test("a cycle is reported where it closes, with the chain of files", () => {
    const files = mapFiles({
      "a.pml": `<schema name="a"><import schema="b.pml"/></schema>`,
      "b.pml": `<schema name="b"><module name="m"><import schema="c.pml"/></module></schema>`,
      "c.pml": `<schema name="c"><import schema="b.pml"/></schema>`,
    });
    const { diagnostics } = readSchema("a.pml", { files });
    expect(diagnostics).toMatchObject([{ code: "import-cycle", place: { file: "c.pml", column: 34 } }]);
    expect(diagnostics[0]?.message).toContain("`b.pml` imports `c.pml` imports `b.pml`");
  });

  test("a cycle is found through links, since each file has one name", () => {
    const file = write("a.pml", `<schema name="a"><import schema="b.pml"/></schema>`);
    symlinkSync(file, join(folder, "b.pml"));
    expect(codes(file)).toEqual(["import-cycle"]);
  });

  test("one schema may be imported into several modules", () => {
    const files = mapFiles({
      "a.pml": `<schema name="a"><module name="x"><import schema="b.pml"/></module><module name="y"><import schema="b.pml"/></module></schema>`,
      "b.pml": `<schema name="b"><module name="m">1</module></schema>`,
    });
    expect(readSchema("a.pml", { files }).diagnostics).toEqual([]);
  });

  test("imports that double at every step stop at the limit of files", () => {
    const steps = Array.from({ length: 30 }, (_, i): [string, string] => {
      const next = `<import schema="${i + 1}.pml"/>`;
      return [`${i}.pml`, `<schema name="s${i}"><module name="a">${next}</module><module name="b">${next}</module></schema>`];
    });
    const found = codes("0.pml", { files: mapFiles({ ...Object.fromEntries(steps), "30.pml": `<schema name="end"/>` }) });
    expect(found.filter((code) => code === "too-large")).toHaveLength(1);
  });

  test("errors in an imported schema are reported in its own file", () => {
    const files = mapFiles({
      "a.pml": `<schema name="a"><import schema="b.pml"/></schema>`,
      "b.pml": `<schema name="b"><modul/></schema>`,
    });
    expect(readSchema("a.pml", { files }).diagnostics).toMatchObject([{ code: "unknown-element", place: { file: "b.pml" } }]);
  });

  test("a tree whose files were not resolved is reported", () => {
    const tree = build("s", importSchema("a.pml"), module("m", { src: "m.md" }));
    expect(checkSchema(tree).map(({ code }) => code)).toEqual(["unread-file", "unread-file"]);
  });
});
