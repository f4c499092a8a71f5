import { mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { describe, expect, test } from "vitest";

import { listFiles, loadFile } from "../../rag/index.js";
import { temporaryFolder } from "./temporary-folder.js";
import { makePdf, UNKNOWN_PASSWORD } from "./make-pdf.js";

const load = (path: string, content: string | Uint8Array) => loadFile(path, typeof content === "string" ? Buffer.from(content) : content);

async function only(path: string, content: string | Uint8Array) {
  const { documents, problems } = await load(path, content);
  expect(problems).toEqual([]);
  expect(documents).toHaveLength(1);
  const { title, paragraphs } = documents[0]!;
  return { title, texts: paragraphs.map(({ text }) => text), headings: paragraphs.filter(({ heading }) => heading).map(({ text }) => text) };
}

async function reasonOf(path: string, content: string | Uint8Array): Promise<string> {
  const { documents, problems } = await load(path, content);
  expect(documents).toEqual([]);
  expect(problems).toHaveLength(1);
  expect(problems[0]!.path).toBe(path);
  return problems[0]!.reason;
}

describe("plain text", () => {
  test("empty lines part paragraphs, and the title is the file's name", async () => {
    expect(await only("/docs/old-town_hall.txt", "One.\nStill one.\n\n \nTwo.\r\n\r\nThree.\n")).toMatchObject({
      title: "old town hall",
      texts: ["One.\nStill one.", "Two.", "Three."],
    });
  });

  test("UTF-16 with a byte order mark is read; other encodings are told how to convert", async () => {
    expect((await only("/a.txt", Buffer.from("\uFEFFSmørrebrød", "utf16le"))).texts).toEqual(["Smørrebrød"]);
    expect((await only("/a.txt", "\uFEFFSmørrebrød")).texts).toEqual(["Smørrebrød"]);
    expect(await reasonOf("/a.txt", Buffer.from("Smørrebrød", "latin1"))).toMatch(/not UTF-8.*iconv/);
  });
});

describe("titles", () => {
  test("a short line alone at the top of a text is its title; a sentence is not", async () => {
    expect(await only("/a.txt", "Copper roofs\n\nThey turn green.")).toMatchObject({ title: "Copper roofs", texts: ["They turn green."] });
    expect(await only("/a.txt", "They turn green.\n\nBy the sea.")).toMatchObject({ title: "a", texts: ["They turn green.", "By the sea."] });
  });

  test("a document that begins with its title does not say it twice, but one that is its title keeps it", async () => {
    expect((await only("/a.md", "# Copper roofs\n\nThey turn green.")).texts).toEqual(["They turn green."]);
    expect((await only("/a.html", "<title>Roofs</title><h1>Roofs</h1><p>x</p>")).texts).toEqual(["x"]);
    expect((await only("/a.md", "# Copper roofs")).texts).toEqual(["Copper roofs"]);
  });
});

describe("markdown", () => {
  test("the title comes from front matter, else from the first heading, else from the file's name", async () => {
    expect((await only("/a.md", '---\ntags: x\ntitle: "From the front"\n---\n# Heading\n\nText.')).title).toBe("From the front");
    expect((await only("/a.md", "Text.\n\n## The *first* heading\n\nMore.")).title).toBe("The first heading");
    expect((await only("/quiet-place.md", "Text.")).title).toBe("quiet place");
  });

  test("marks go, text stays, blocks are paragraphs, and front matter is no text", async () => {
    const text = "---\ntitle: T\n---\n# Head\n\nA **bold**\nline with [a link](http://x).\n\n- one\n- two\n\n```js\nlet x;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n";
    expect(await only("/a.md", text)).toEqual({
      title: "T",
      texts: ["Head", "A bold line with a link.", "one", "two", "let x;", "| a | b |\n|---|---|\n| 1 | 2 |"],
      headings: ["Head"],
    });
  });
});

describe("html", () => {
  const page = (body: string, head = "<title>Roofs &amp; walls</title>") => `<!doctype html><html><head>${head}<style>p{}</style></head><body>${body}</body></html>`;

  test("boilerplate is left out", async () => {
    const around = "<nav>Menu</nav><script>x()</script><aside aria-hidden=true>Ad</aside><footer>Imprint</footer>";
    expect(await only("/a.html", page(`${around}<h1>Copper <b>roofs</b></h1><p>They turn <a href="/g">green</a>.</p>`))).toEqual({
      title: "Roofs & walls",
      texts: ["Copper roofs", "They turn green."],
      headings: ["Copper roofs"],
    });
  });

  test("of a page with <main>, only that", async () => {
    expect((await only("/a.htm", page("<div>Teaser</div><main><p>Text.</p></main>"))).texts).toEqual(["Text."]);
  });

  test("without <title>, the first heading is the title", async () => {
    expect((await only("/a.html", page("<h2>Roofs</h2><p>x</p>", ""))).title).toBe("Roofs");
  });

  test("cells and list items keep apart", async () => {
    const [table, list] = (await only("/a.html", page("<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table><ul><li>x</li><li>y</li></ul>"))).texts;
    expect(table).toBe("A B\n1 2");
    expect(list!.match(/[xy]/g)).toEqual(["x", "y"]);
  });

  test("the encoding that the page declares is used", async () => {
    expect((await only("/a.html", Buffer.from(page("<p>Smørrebrød</p>", '<meta charset="iso-8859-1">'), "latin1"))).texts).toEqual(["Smørrebrød"]);
  });
});

describe("pdf", () => {
  test("lines become paragraphs, broken words become whole, and the title is the metadata's", async () => {
    const pdf = makePdf([["Copper turns", "green by weath-", "ering.", "", "It is protected."], ["On page two."]], { title: "Copper roofs" });
    expect(await only("/a.pdf", pdf)).toMatchObject({
      title: "Copper roofs",
      texts: ["Copper turns green by weathering.", "It is protected.", "On page two."],
    });
  });

  test("a PDF without title is named by its file", async () => {
    expect((await only("/green-roof.pdf", makePdf([["Text."]]))).title).toBe("green roof");
  });

  test("broken, encrypted and scanned files are told what to do", async () => {
    const pdf = makePdf([["Text."]]);
    expect(await reasonOf("/a.pdf", pdf.subarray(0, 200))).toMatch(/broken.*qpdf/);
    expect(await reasonOf("/a.pdf", "no pdf at all")).toMatch(/broken/);
    expect(await reasonOf("/a.pdf", makePdf([["Text."]], { encrypt: UNKNOWN_PASSWORD }))).toMatch(/encrypted.*--decrypt/);
    expect(await reasonOf("/a.pdf", makePdf([[]]))).toMatch(/OCR/);
  });
});

describe("jsonl", () => {
  test("a line is a document; a bad line is reported with its number, and the others go on", async () => {
    const lines = ['{"title":"A","text":"First.\\n\\nSecond."}', "{broken", "", '{"title":"B"}', "[1]", '{"title":5,"text":"x"}', '{"text":"Untitled."}'];
    const { documents, problems } = await load("/some-facts.jsonl", lines.join("\n"));
    expect(documents.map(({ title, paragraphs }) => [title, paragraphs.length])).toEqual([["A", 2], ["some facts", 1]]);
    expect(problems.map(({ line }) => line)).toEqual([2, 4, 5, 6]);
    for (const { reason } of problems) expect(reason).toMatch(/; (write|leave)|or leave/);
  });
});

describe("files of no use are reported, not thrown", () => {
  test.each([
    ["/a.txt", Buffer.from([0x89, 0x50, 0, 0, 1]), /binary/],
    ["/a.md", "", /empty/],
    ["/a.md", "  \n\n ", /no text/],
    ["/a.html", "<script>x</script>", /no text/],
    ["/a.png", "x", /kind is not known.*\.md/],
  ])("%s", async (path, content, reason) => {
    expect(await reasonOf(path, content)).toMatch(reason);
  });
});

describe("listing", () => {
  async function folder(...paths: string[]): Promise<string> {
    const root = await temporaryFolder();
    for (const path of paths) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), "text");
    }
    return root;
  }

  test("folders: what can be loaded, without hidden files, node_modules and links, in a fixed order", async () => {
    const root = await folder("b.md", "a/z.TXT", "a/B.html", ".hidden.md", ".git/x.md", "node_modules/p/README.md", "a/node_modules/q.md", "c.png");
    await symlink(root, join(root, "loop"));
    const { files, folders, problems } = await listFiles([root]);
    expect(files).toEqual(["a/B.html", "a/z.TXT", "b.md"].map((path) => join(root, path)));
    expect(folders).toEqual([root]);
    expect(problems).toEqual([]);
  });

  test("globs and names; each file once, however often it is named", async () => {
    const root = await folder("a.md", "b/c.md", "b/d.txt", "b/e[1].md");
    const names = [join(root, "**/*.md"), join(root, "b"), join(root, "a.md"), join(root, "b/e[1].md")];
    expect((await listFiles(names)).files).toEqual(["a.md", "b/c.md", "b/d.txt", "b/e[1].md"].map((path) => join(root, path)));
  });

  test("a name that does not exist is an error; a folder without files is a problem to tell", async () => {
    const root = await folder("a.png");
    await expect(listFiles([join(root, "nowhere.md")])).rejects.toMatchObject({ code: "bad_file", message: expect.stringContaining("nowhere.md") });
    expect((await listFiles([root])).problems).toMatchObject([{ path: root }]);
    expect((await listFiles([join(root, "*.md")])).problems).toHaveLength(1);
  });

  test("a named file of an unknown kind is listed, so that loading it tells why not", async () => {
    const root = await folder("a.png");
    expect((await listFiles([join(root, "a.png")])).files).toHaveLength(1);
  });
});
