import { describe, expect, test } from "vitest";

import { load, only } from "../support/rag/loading.js";

const page = (body: string, head = "<title>Roofs &amp; walls</title>") =>
  `<!doctype html><html><head>${head}<style>p{}</style></head><body>${body}</body></html>`;
const textsOf = async (body: string) => (await only("/a.html", page(body))).texts;

const TEXT = "They turn green by the sea, and nobody in the town minds that in the least.";

describe("the main text of a page", () => {
  test("leaves out boilerplate", async () => {
    const around =
      "<nav>Menu</nav><script>x()</script><aside aria-hidden=true>Ad</aside><div style='display: none'>x</div><footer>Imprint</footer>";
    expect(await only("/a.html", page(`${around}<h1>Copper <b>roofs</b></h1><p>They turn <a href="/g">green</a>.</p>`))).toMatchObject({
      title: "Roofs & walls",
      texts: ["Copper roofs", "They turn green."],
      headings: ["Copper roofs"],
    });
  });

  test("has the first heading as title if there is no <title>, with its picture's alternative text if it has no other words", async () => {
    expect((await only("/a.html", page("<h2>Roofs</h2><p>x</p>", ""))).title).toBe("Roofs");
    expect((await only("/a.html", page("<h1><img src=x alt='Roofs'></h1><p>x</p>", ""))).title).toBe("Roofs");
  });

  test("is not left out because of a <form> around it", async () => {
    expect(await textsOf(`<form action="/"><p>${TEXT}</p><select><option>de<option>en</select><button>Go</button></form>`)).toEqual([TEXT]);
  });

  test("is <main>, unless that is empty or has little of the page", async () => {
    expect(await textsOf(`<div>Teaser</div><main><p>${TEXT}</p></main>`)).toEqual([TEXT]);
    expect(await textsOf(`<main></main><p>${TEXT}</p>`)).toEqual([TEXT]);
    expect(await textsOf(`<main><p>Loading</p></main><div><p>${TEXT}</p></div>`)).toEqual(["Loading", TEXT]);
    expect(await textsOf(`<main><p>Intro</p></main><article><p>${TEXT}</p></article>`)).toEqual(["Intro", TEXT]);
  });

  test("leaves out lists and tables of links as navigation, unless the page has little else", async () => {
    const links = ["Home", "Roofs", "Walls", "Imprint"].map((name) => `<a href="/${name}">${name}</a>`);
    const menus = [
      `<table><tr><td>${links.join("</td><td>")}</td></tr></table>`,
      `<ul><li>${links.join("<li>")}</ul>`,
      `<div>${links.join(" | ")}</div>`,
    ];
    for (const menu of menus) {
      expect(await textsOf(`${menu}<p>${TEXT}</p>`)).toEqual([TEXT]);
      expect((await textsOf(menu)).join()).toContain("Walls");
    }
    expect((await textsOf(`<main><p>${TEXT}</p>${menus[1]}</main>`)).join()).toContain("Walls");
  });

  test("is read in the declared encoding rather than a guessed one", async () => {
    const declared = (encoding: string) => page("<p>\x00</p>", `<meta charset="${encoding}">`).split("\x00") as [string, string];
    const japanese = Buffer.concat([
      Buffer.from(declared("iso-2022-jp")[0]),
      Buffer.from([0x1b, 0x24, 0x42, 0x46, 0x7c, 0x4b, 0x5c, 0x1b, 0x28, 0x42]),
      Buffer.from(declared("x")[1]),
    ]);
    expect((await only("/a.html", japanese)).texts).toEqual(["日本"]);
    const [before, after] = declared("iso-8859-1");
    expect((await only("/a.html", Buffer.from(`${before}Smørrebrød${after}`, "latin1"))).texts).toEqual(["Smørrebrød"]);
    const xml = Buffer.from(`<?xml version="1.0" encoding="iso-8859-1"?><html><body><p>Smørrebrød</p></body></html>`, "latin1");
    expect((await only("/a.xhtml", xml)).texts).toEqual(["Smørrebrød"]);
  });

  test("may be nested in 20,000 elements", async () => {
    expect(await textsOf(`${"<div>".repeat(20_000)}${TEXT}${"</div>".repeat(20_000)}`)).toEqual([TEXT]);
    expect(await textsOf(`${"<ul><li>".repeat(2_000)}${TEXT}`)).toEqual([expect.stringContaining(TEXT)]);
  });
});

describe("paragraphs", () => {
  test("text that is separate on the page is separate in the paragraphs", async () => {
    expect(await textsOf("<dl><dt>Copper</dt><dd>Green.</dd></dl>")).toEqual(["Copper", "Green."]);
    expect(await textsOf(`<span style="display:inline-block">One</span><span style="display: inline-block">two</span>`)).toEqual([
      "One two",
    ]);
    expect(await textsOf("See<a href=a>One</a><a href=b>Two</a>. <label>Name</label><input>")).toEqual(["SeeOne Two. Name"]);
    expect(await textsOf("<b>C</b>opper<br>roofs")).toEqual(["Copper\nroofs"]);
  });

  test("lists keep their bullets, numbers and nesting", async () => {
    const list = "<ul><li>One<ol start=3><li>two<li>three</ol><li><p>Four</p><p>more</p></ul>";
    expect(await textsOf(list)).toEqual(["- One", "  3. two", "  4. three", "- Four", "  more"]);
  });

  test("a table's rows have the names of its columns", async () => {
    const { paragraphs } = await only(
      "/a.html",
      page("<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td><p>2</p><p>3</p></td></tr><tr><td></td><td>4</td></tr></table>"),
    );
    expect(paragraphs).toEqual([
      { text: "1 | 2 3", columns: "A | B" },
      { text: " | 4", columns: "A | B" },
    ]);
  });

  test("a table used for layout is read cell by cell", async () => {
    expect(
      await textsOf(
        `<table><tr><td>Left</td><td><h2>Roofs</h2><p>${TEXT}</p><table><tr><td>1</td><td>2</td></tr></table></td></tr></table>`,
      ),
    ).toEqual(["Left", "Roofs", TEXT, "1 | 2"]);
  });

  test("<pre> keeps its lines and spaces, also after an empty line", async () => {
    expect(await textsOf("<pre>\nif x:\n    one()\n\n    two()\n</pre>")).toEqual(["if x:\n    one()", "    two()"]);
  });
});

test("HTML in Markdown is read the same way", async () => {
  const { title, texts } = await only(
    "/a.md",
    `<div align="center"><h1><img alt="Roofs" src="logo.svg"></h1></div>\n\nText.\n\n<dl><dt>Copper</dt><dd>Green.</dd></dl>\n`,
  );
  expect(title).toBe("Roofs");
  expect(texts).toEqual(["Text.", "Copper", "Green."]);
});

test("a page without text is reported", async () => {
  expect((await load("/a.html", page("<script>x</script>"))).problems).toMatchObject([{ reason: expect.stringContaining("no text") }]);
});
