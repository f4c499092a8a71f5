import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { describe, expect, test } from "vitest";

import { listFiles } from "../../rag/index.js";
import { load, only, reasonOf } from "../support/rag/loading.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

/** Root may read anything, so it runs these as another user. */
async function asNobody<T>(work: () => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) return work();
  process.seteuid!("nobody");
  try {
    return await work();
  } finally {
    process.seteuid!(0);
  }
}

describe("plain text", () => {
  test("empty lines separate paragraphs, and the title is the file's name", async () => {
    expect(await only("/docs/old-town_hall.txt", "One.\nStill one.\n\n \nTwo.\r\n\r\nThree.\n")).toMatchObject({
      title: "old town hall",
      texts: ["One.\nStill one.", "Two.", "Three."],
    });
  });

  test("UTF-16 with a byte order mark is read; for other encodings the message says how to convert", async () => {
    expect((await only("/a.txt", Buffer.from("\uFEFFSmørrebrød", "utf16le"))).texts).toEqual(["Smørrebrød"]);
    expect((await only("/a.txt", "\uFEFFSmørrebrød")).texts).toEqual(["Smørrebrød"]);
    expect(await reasonOf("/a.txt", Buffer.from("Smørrebrød", "latin1"))).toMatch(/not UTF-8.*iconv/);
  });

  test.each(["Smørrebrød and a beer, please.\n", "日本語の文章です。 A word.\n"])(
    "UTF-16 without a mark is recognised by its zeros: %s",
    async (text) => {
      expect((await only("/a.txt", Buffer.from(text, "utf16le"))).texts).toEqual([text.trim()]);
      expect((await only("/a.txt", Buffer.from(text, "utf16le").swap16())).texts).toEqual([text.trim()]);
    },
  );

  test("an accidental control character is left out, and does not make a text binary", async () => {
    expect((await only("/a.txt", "One\0 two.")).texts).toEqual(["One two."]);
    expect((await only("/a.txt", `A log.\n\n${"A line of it.\n".repeat(50)}\x01\x1b[0m`)).texts[0]).toBe("A log.");
    expect(await reasonOf("/a.txt", "\0\x01\x02text\0\x03\x04")).toMatch(/binary/);
  });

  test("indentation is kept, also after an empty line", async () => {
    expect((await only("/a.txt", "One:\n\n    indented\n      more\n\n\t\n  two\n")).texts).toEqual([
      "One:",
      "    indented\n      more",
      "  two",
    ]);
  });

  test("base64 and other machine-made data is left out and reported", async () => {
    const data = Buffer.from(Array.from({ length: 3000 }, (_, index) => index % 251)).toString("base64");
    for (const content of [
      `Before.\n\n${data}\n\nAfter.`,
      `Before.\n\n${data.replace(/.{76}/g, "$&\n")}\n\nAfter.`,
      `Before.\n\nAfter. ![x](data:image/png;base64,${data})`,
    ]) {
      const { documents, problems } = await load("/a.txt", content);
      const text = documents[0]!.paragraphs.map(({ text }) => text).join("\n");
      expect(text).toMatch(/^Before\.\nAfter\./);
      expect(text.length).toBeLessThan(100);
      expect(problems).toMatchObject([{ path: "/a.txt", reason: expect.stringMatching(/\d{4} characters of encoded.*left out/) }]);
    }
    expect((await only("/a.txt", `One.\n\n${"漢字仮名".repeat(300)}\n\nhttps://a.b/${"c".repeat(300)}`)).texts).toHaveLength(3);
    expect((await only("/a.txt", "devices/vector/gdevpdt.c, https://example.org/a/path, ".repeat(40))).texts).toHaveLength(1);
  });
});

describe("titles", () => {
  test("a short line by itself at the top of a text is its title; a sentence is not", async () => {
    expect(await only("/a.txt", "Copper roofs\n\nThey turn green.")).toMatchObject({ title: "Copper roofs", texts: ["They turn green."] });
    expect(await only("/a.txt", "They turn green.\n\nBy the sea.")).toMatchObject({
      title: "a",
      texts: ["They turn green.", "By the sea."],
    });
  });

  test("a document that begins with its title does not repeat it, but one that is only its title keeps it", async () => {
    expect((await only("/a.md", "# Copper roofs\n\nThey turn green.")).texts).toEqual(["They turn green."]);
    expect((await only("/a.html", "<title>Roofs</title><h1>Roofs</h1><p>x</p>")).texts).toEqual(["x"]);
    expect((await only("/a.md", "# Copper roofs")).texts).toEqual(["Copper roofs"]);
  });
});

describe("markdown", () => {
  test("the title comes from front matter, or else the first heading, or else the file's name", async () => {
    expect((await only("/a.md", '---\ntags: x\ntitle: "From the front"\n---\n# Heading\n\nText.')).title).toBe("From the front");
    expect((await only("/a.md", "Text.\n\n## The *first* heading\n\nMore.")).title).toBe("The first heading");
    expect((await only("/quiet-place.md", "Text.")).title).toBe("quiet place");
  });

  test("markup is removed, text is kept, blocks are paragraphs, and front matter is not text", async () => {
    const text =
      "---\ntitle: T\n---\n# Head\n\nA **bold**\nline with [a link](http://x).\n\n- one\n- two\n\n```js\nlet x;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n";
    expect(await only("/a.md", text)).toMatchObject({
      title: "T",
      texts: ["Head", "A bold line with a link.", "- one", "- two", "let x;", "1 | 2"],
      headings: ["Head"],
    });
  });

  test("lists keep numbers, bullets and nesting", async () => {
    const list = "3. three\n   - inner\n     more\n\n     ```\n     a\n       b\n     ```\n4. four\n";
    expect((await only("/a.md", list)).texts).toEqual(["3. three", "   - inner more", "     a\n       b", "4. four"]);
  });

  test("a table's rows have the names of its columns", async () => {
    const { paragraphs } = await only("/a.md", "Text.\n\na | *b*\n--|--\n1 | `2`\n3 |\n");
    expect(paragraphs).toEqual([{ text: "Text." }, { text: "1 | 2", columns: "a | b" }, { text: "3", columns: "a | b" }]);
  });

  test.each([
    ['<h1 align=center>\n  <img alt="Roofs" src="logo.svg">\n</h1>\n\nText.\n\n## Install\n\nSo.', "Roofs"],
    ['<a name="top"></a># Roofs\n\nText.', "Roofs"],
    ['# <a name="top"></a>Roofs\n\nText.', "Roofs"],
    ["[![build](b.svg)](ci)\n\n<h1>Roofs</h1>\n\nText.", "Roofs"],
    ["# ![Roofs](logo.svg)\n\nText.", "Roofs"],
  ])("the title is the first heading: %j", async (content, title) => {
    expect(await only("/a.md", content)).toMatchObject({ title, texts: expect.arrayContaining(["Text."]) });
  });

  test("code keeps its indentation, also after an empty line", async () => {
    expect((await only("/a.md", "```py\n  if x:\n\n      y()\n```\n")).texts).toEqual(["  if x:", "      y()"]);
  });
});

describe("records", () => {
  const titles = (documents: readonly { title: string; paragraphs: readonly unknown[] }[]) =>
    documents.map(({ title, paragraphs }) => [title, paragraphs.length]);

  test("a line of .jsonl is a document; a bad line is reported with its number, and the others are read", async () => {
    const lines = [
      '{"title":"A","text":"First.\\n\\nSecond."}',
      "{broken",
      "",
      '{"title":"B"}',
      "[1]",
      '{"title":5,"text":"x"}',
      '{"text":"Untitled."}',
    ];
    const { documents, problems } = await load("/some-facts.jsonl", lines.join("\n"));
    expect(titles(documents)).toEqual([
      ["A", 2],
      ["some facts", 1],
    ]);
    expect(problems.map(({ line }) => line)).toEqual([2, 4, 5, 6]);
    for (const { reason } of problems) expect(reason).toMatch(/; (write|leave)|or leave/);
  });

  test("a problem shared by many lines is reported once", async () => {
    const { documents, problems } = await load("/a.jsonl", `{"text":"One."}\n${"not json\n".repeat(400)}`);
    expect(documents).toHaveLength(1);
    expect(problems).toEqual([{ path: "/a.jsonl", line: 2, reason: expect.stringMatching(/not JSON.*for 399 more lines/) }]);
  });

  test("an array is read as its items, in .jsonl and .json", async () => {
    const items = [{ title: "A", text: "One." }, { text: "Two." }, { name: "x" }, { name: "y" }];
    for (const name of ["/facts.jsonl", "/facts.json"]) {
      const { documents, problems } = await load(name, JSON.stringify(items, null, 2));
      expect(titles(documents)).toEqual([
        ["A", 1],
        ["facts", 1],
      ]);
      expect(problems).toEqual([{ path: name, reason: expect.stringMatching(/^In item 3: It has no text.*for 1 more item\.\)/) }]);
    }
  });

  test("other JSON is text, reformatted if it is on one line", async () => {
    expect(await only("/a.json", '{"name":"roof","colour":"green"}')).toMatchObject({
      title: "a.json",
      texts: ['{\n "name": "roof",\n "colour": "green"\n}'],
    });
    expect(await reasonOf("/a.json", '{"name":')).toMatch(/not JSON/);
  });

  test.each([[","], [";"], ["\t"]])("CSV separated by %j: rows have the names of their columns", async (mark) => {
    const { title, paragraphs } = await only("/green-roofs.csv", `Name${mark}Year\n"Town, hall"${mark}1871\nMill${mark}\n`);
    expect(title).toBe("green roofs");
    expect(paragraphs).toEqual([
      { text: "Town, hall | 1871", columns: "Name | Year" },
      { text: "Mill", columns: "Name | Year" },
    ]);
  });

  test('CSV with a column "text" has one document per row', async () => {
    const { documents, problems } = await load("/facts.csv", 'id,Title,Text\n1,Ferry,"It crosses.\n\nTwice."\n2,,Owls hunt.\n3,Empty,\n');
    expect(titles(documents)).toEqual([
      ["Ferry", 2],
      ["facts", 1],
    ]);
    expect(problems).toMatchObject([{ reason: expect.stringMatching(/^In row 3: It has no text/) }]);
  });
});

describe("code, logs and files without a suffix", () => {
  test("are read as they are, code with its file name as title", async () => {
    const code = "function roof() {\n  return 'green';\n}\n\n  // end\n";
    expect(await only("/src/roof.ts", code)).toMatchObject({
      title: "roof.ts",
      texts: ["function roof() {\n  return 'green';\n}", "  // end"],
    });
    expect(await only("/var/roof.log", "10:00 wet\n10:05 dry\n")).toMatchObject({ title: "roof.log", texts: ["10:00 wet\n10:05 dry"] });
    expect(await only("/README", "Roofs\n\nThey turn green.")).toMatchObject({ title: "Roofs", texts: ["They turn green."] });
  });

  test("minified code is left out and reported", async () => {
    const { documents, problems } = await load("/a.js", `var a=1;${"function(b){return c.d(e)};".repeat(2000)}`);
    expect(documents).toEqual([]);
    expect(problems).toMatchObject([{ reason: expect.stringContaining("left out") }]);
  });
});

describe("reStructuredText", () => {
  test("lines of punctuation make headings; directives, roles and links leave their words", async () => {
    const text = [
      "======",
      "Roofs",
      "======",
      "",
      ".. _roofs:",
      "",
      "They turn **green** by the :ref:`sea <sea>`, see `the town <http://x>`_.",
      "",
      ".. code-block:: python",
      "   :linenos:",
      "",
      "   if x:",
      "       y()",
      "",
      "Walls",
      "-----",
      "",
      ".. note:: Keep them ``dry``.",
      "",
      ".. toctree::",
      "   :maxdepth: 2",
      "",
    ].join("\n");
    expect(await only("/a.rst", text)).toMatchObject({
      title: "Roofs",
      texts: ["They turn green by the sea, see the town.", "   if x:\n       y()", "Walls", "Keep them dry."],
      headings: ["Walls"],
    });
  });
});

describe("notebooks", () => {
  test("text, code and its output, without pictures", async () => {
    const notebook = {
      nbformat: 4,
      cells: [
        { cell_type: "markdown", source: ["# Roofs\n", "\n", "They turn *green*."] },
        {
          cell_type: "code",
          source: "for x in y:\n    print(x)",
          outputs: [
            { text: ["one\n", "two\n"] },
            { data: { "image/png": "iVBOR", "text/plain": "<Figure>" } },
            { data: { "image/png": "iVBOR" } },
          ],
        },
      ],
    };
    expect(await only("/a.ipynb", JSON.stringify(notebook))).toMatchObject({
      title: "Roofs",
      texts: ["They turn green.", "for x in y:\n    print(x)", "one\ntwo", "<Figure>"],
    });
    expect(await reasonOf("/a.ipynb", "{}")).toMatch(/not a Jupyter notebook/);
  });
});

describe("mail", () => {
  const mail = (body: string, headers = "") =>
    `From: Oda <oda@brenna.example>\nTo: town@brenna.example\nSubject: =?utf-8?q?The_r=C3=B8of?=\nDate: Mon, 5 Oct 2026 10:00:00 +0000\n${headers}\n${body}`;
  const attached = (name: string, type: string, content: string) =>
    mail(
      `--x\n\nSee the file.\n\n--x\nContent-Type: ${type}\nContent-Disposition: attachment; filename="${name}"\n\n${content}\n\n--x--\n`,
      'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="x"\n',
    );

  test("subject, people, date and text", async () => {
    expect(await only("/a.eml", mail("It leaks.\n\nPlease come."))).toMatchObject({
      title: "The røof",
      texts: ["From: Oda <oda@brenna.example>\nTo: town@brenna.example\nDate: 2026-10-05T10:00:00.000Z", "It leaks.", "Please come."],
    });
  });

  test("attachments are separate documents; those that cannot be read are reported", async () => {
    const { documents, problems } = await load("/a.eml", attached("notes.md", "text/markdown", "# Notes\n\nCopper."));
    expect(documents.map(({ title, path }) => [title, path])).toEqual([
      ["The røof", "/a.eml"],
      ["The røof: Notes", "/a.eml"],
    ]);
    expect(problems).toEqual([]);
    expect((await load("/a.eml", attached("a.png", "image/png", "x"))).problems).toMatchObject([
      { path: "/a.eml", reason: expect.stringMatching(/In a\.png: Its kind/) },
    ]);
  });

  test("mails within mails are read down to a limit", async () => {
    let nested = mail("The innermost.");
    for (let depth = 0; depth < 6; depth++) {
      nested = attached(
        "inner.eml",
        "application/octet-stream\nContent-Transfer-Encoding: base64",
        Buffer.from(nested).toString("base64").replace(/.{76}/g, "$&\n"),
      );
    }
    const { documents, problems } = await load("/a.eml", nested);
    expect(documents.length).toBeLessThan(6);
    expect(problems).toMatchObject([{ reason: expect.stringContaining("files deep") }]);
  });

  test("each mail of a mailbox is a document", async () => {
    const box = ["One.", "Two."].map((body) => `From oda@brenna.example Mon Oct  5 10:00:00 2026\n${mail(body)}\n\n`).join("");
    const { documents } = await load("/a.mbox", box);
    expect(documents.map(({ paragraphs }) => paragraphs.at(-1)!.text)).toEqual(["One.", "Two."]);
  });
});

describe("unusable files are reported, not thrown", () => {
  test.each([
    ["/a.txt", Buffer.from([0x89, 0x50, 0, 0, 1]), /binary/],
    ["/a.md", "", /empty/],
    ["/a.md", "  \n\n ", /no text/],
    ["/a.html", "<script>x</script>", /no text/],
    ["/a.png", "x", /kind \(\.png\) is unknown.*\.md/],
    ["/a.md", `${"> ".repeat(20_000)}x`, /nested too deeply/],
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

  test("lists the loadable files of a folder, without hidden ones, in a fixed order", async () => {
    const root = await folder("b.md", "a/z.TXT", "a/B.html", "a/README", ".hidden.md", ".git/x.md", "c.rst", "d.json");
    const { files, folders, problems, passedOver } = await listFiles([root]);
    expect(files).toEqual(["a/B.html", "a/README", "a/z.TXT", "b.md", "c.rst", "d.json"].map((path) => join(root, path)));
    expect(folders).toEqual([root]);
    expect(problems).toEqual([]);
    expect(passedOver).toEqual({});
  });

  test("skipped files are counted by kind", async () => {
    const root = await folder(
      "a.md",
      "b.png",
      "c.png",
      "d.zip",
      "node_modules/p/README.md",
      "a/node_modules/q.md",
      "site/_static/jquery.js",
    );
    await writeFile(join(root, "binary"), Buffer.from([127, 69, 76, 70, 0, 1]));
    await symlink(join(root, "nowhere"), join(root, "broken.md"));
    expect((await listFiles([root])).passedOver).toEqual({
      ".png": 2,
      ".zip": 1,
      "node_modules/": 2,
      "_static/": 1,
      "(no suffix)": 1,
      "broken links": 1,
    });
    expect((await listFiles([join(root, "*.png")])).passedOver).toEqual({ ".png": 2 });
    expect((await listFiles([join(root, "*.md")])).passedOver).toEqual({ "broken links": 1 });
  });

  test("links to files are followed: a Kubernetes ConfigMap consists of links", async () => {
    const root = await folder("..2026_10_05/a.md", "..2026_10_05/b.md");
    await symlink("..2026_10_05", join(root, "..data"));
    for (const name of ["a.md", "b.md"]) await symlink(join("..data", name), join(root, name));
    expect(await listFiles([root])).toMatchObject({ files: [join(root, "a.md"), join(root, "b.md")], problems: [], passedOver: {} });
  });

  test("a file is listed once, whatever links lead to it; links out of the folder and to folders are followed only on request", async () => {
    const root = await folder("docs/a.md", "elsewhere/b.md", "elsewhere/inner/c.md");
    const docs = join(root, "docs");
    await symlink("a.md", join(docs, "0.md"));
    await symlink("../elsewhere/b.md", join(docs, "b.md"));
    await symlink("../elsewhere", join(docs, "more"));
    await symlink("..", join(docs, "loop"));
    expect(await listFiles([docs])).toMatchObject({
      files: [join(docs, "a.md")],
      passedOver: { "links out of the folder": 1, "linked folders": 2 },
    });
    const followed = await listFiles([docs], { followLinks: true });
    expect(followed.files).toHaveLength(3);
    expect(followed).toMatchObject({ passedOver: {}, problems: [] });
  });

  test("a folder without permission is reported, and its files may still exist", async () => {
    const root = await folder("a.md", "locked/b.md");
    await chmod(root, 0o755);
    await chmod(join(root, "locked"), 0);
    const { files, problems, unreadable } = await asNobody(() => listFiles([root]));
    await chmod(join(root, "locked"), 0o700);
    expect(files).toEqual([join(root, "a.md")]);
    expect(problems).toMatchObject([{ path: join(root, "locked"), reason: expect.stringContaining("permissions") }]);
    expect(unreadable).toEqual([join(root, "locked")]);
  });

  test("globs and names: each file once, however often it is named", async () => {
    const root = await folder("a.md", "b/c.md", "b/d.txt", "b/e[1].md");
    const names = [join(root, "**/*.md"), join(root, "b"), join(root, "a.md"), join(root, "b/e[1].md")];
    expect((await listFiles(names)).files).toEqual(["a.md", "b/c.md", "b/d.txt", "b/e[1].md"].map((path) => join(root, path)));
  });

  test("a name that does not exist is an error unless it is known; a folder without files is reported as a problem", async () => {
    const root = await folder("a.png");
    const nowhere = join(root, "nowhere.md");
    await expect(listFiles([nowhere])).rejects.toMatchObject({ code: "bad_file", message: expect.stringContaining("nowhere.md") });
    expect(await listFiles([nowhere], { isKnown: (path) => path === nowhere })).toMatchObject({ files: [], gone: [nowhere] });
    expect((await listFiles([root])).problems).toMatchObject([{ path: root }]);
    expect((await listFiles([join(root, "*.md")])).problems).toHaveLength(1);
  });

  test("a named file of an unknown kind is listed, so that loading reports why it cannot be read", async () => {
    const root = await folder("a.png");
    expect((await listFiles([join(root, "a.png")])).files).toHaveLength(1);
  });
});
