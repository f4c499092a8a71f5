import { strToU8, zipSync } from "fflate";
import { describe, expect, test } from "vitest";

import { load, only, reasonOf } from "../support/rag/loading.js";

const zip = (parts: Readonly<Record<string, string>>) =>
  Buffer.from(zipSync(Object.fromEntries(Object.entries(parts).map(([name, text]) => [name, strToU8(text)]))));
const rels = (targets: Readonly<Record<string, string>>) =>
  `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">${Object.entries(targets)
    .map(
      ([id, target]) =>
        `<Relationship Id="${id}" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/${/([a-zA-Z]+)\d*\.xml$/.exec(target)![1]}" Target="${target}"/>`,
    )
    .join("")}</Relationships>`;

const W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"';
const word = (text: string, style?: string) =>
  `<w:p>${style ? `<w:pPr><w:pStyle w:val="${style}"/></w:pPr>` : ""}<w:r><w:t>${text}</w:t></w:r></w:p>`;
const docx = (body: string) =>
  zip({
    "[Content_Types].xml": `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>`,
    "_rels/.rels": rels({ r1: "word/document.xml" }).replace(/relationships\/document"/, 'relationships/officeDocument"'),
    "word/document.xml": `<w:document ${W}><w:body>${body}</w:body></w:document>`,
    "word/styles.xml": `<w:styles ${W}><w:style w:type="paragraph" w:styleId="T"><w:name w:val="Title"/></w:style><w:style w:type="paragraph" w:styleId="H"><w:name w:val="heading 1"/></w:style></w:styles>`,
    "word/_rels/document.xml.rels": rels({ r1: "styles.xml" }),
  });

describe("Word", () => {
  test("title, headings, paragraphs and tables", async () => {
    const row = (...cells: string[]) => `<w:tr>${cells.map((cell) => `<w:tc>${word(cell)}</w:tc>`).join("")}</w:tr>`;
    const body = `${word("Roofs", "T")}${word("They turn green.")}${word("Copper", "H")}${word("By the sea.")}<w:tbl>${row("Name", "Year")}${row("Mill", "1871")}</w:tbl>`;
    expect(await only("/a.docx", docx(body))).toMatchObject({
      title: "Roofs",
      texts: ["They turn green.", "Copper", "By the sea.", "Name | Year", "Mill | 1871"],
      headings: ["Copper"],
    });
  });
});

describe("spreadsheets", () => {
  const S =
    'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"';
  const sheet = (rows: readonly (readonly (string | number)[])[]) =>
    `<worksheet ${S}><sheetData>${rows
      .map(
        (row, y) =>
          `<row r="${y + 1}">${row.map((cell, x) => (typeof cell === "number" ? `<c r="${"ABC"[x]}${y + 1}"><v>${cell}</v></c>` : `<c r="${"ABC"[x]}${y + 1}" t="inlineStr"><is><t>${cell}</t></is></c>`)).join("")}</row>`,
      )
      .join("")}</sheetData></worksheet>`;
  const xlsx = (sheets: Readonly<Record<string, readonly (readonly (string | number)[])[]>>) => {
    const names = Object.keys(sheets);
    return zip({
      "xl/workbook.xml": `<workbook ${S}><sheets>${names.map((name, index) => `<sheet name="${name}" sheetId="${index + 1}" r:id="rId${index + 1}"/>`).join("")}</sheets></workbook>`,
      "xl/_rels/workbook.xml.rels": rels(
        Object.fromEntries(names.map((_, index) => [`rId${index + 1}`, `worksheets/sheet${index + 1}.xml`])),
      ).replaceAll('relationships/sheet"', 'relationships/worksheet"'),
      ...Object.fromEntries(names.map((name, index) => [`xl/worksheets/sheet${index + 1}.xml`, sheet(sheets[name]!)])),
    });
  };

  test("a sheet is a document whose rows have the names of their columns", async () => {
    const { documents, problems } = await load(
      "/roofs.xlsx",
      xlsx({
        Copper: [
          ["Name", "Year"],
          ["Mill", 1871],
        ],
        Slate: [
          ["Name", "Year"],
          ["Hall", 1902],
        ],
      }),
    );
    expect(problems).toEqual([]);
    expect(documents.map(({ title, paragraphs }) => [title, paragraphs])).toEqual([
      ["roofs: Copper", [{ text: "Mill | 1871", columns: "Name | Year" }]],
      ["roofs: Slate", [{ text: "Hall | 1902", columns: "Name | Year" }]],
    ]);
  });
});

describe("presentations", () => {
  const P = 'xmlns:p="p" xmlns:a="a" xmlns:r="r"';
  const shape = (texts: readonly string[], type?: string) =>
    `<p:sp><p:nvSpPr><p:nvPr>${type ? `<p:ph type="${type}"/>` : ""}</p:nvPr></p:nvSpPr><p:txBody>${texts.map((text) => `<a:p><a:r><a:t>${text}</a:t></a:r></a:p>`).join("")}</p:txBody></p:sp>`;
  const slide = (...shapes: string[]) => `<p:sld ${P}><p:cSld><p:spTree>${shapes.join("")}</p:spTree></p:cSld></p:sld>`;

  test("slides in order with their page numbers, titles as headings, and notes, but no slide number text", async () => {
    const pptx = zip({
      "ppt/presentation.xml": `<p:presentation ${P}><p:sldIdLst><p:sldId r:id="r2"/><p:sldId r:id="r1"/></p:sldIdLst></p:presentation>`,
      "ppt/_rels/presentation.xml.rels": rels({ r1: "slides/slide1.xml", r2: "slides/slide2.xml" }),
      "ppt/slides/slide1.xml": slide(shape(["Walls"], "title"), shape(["Of slate &amp; stone.", "And wood."]), shape(["17"], "sldNum")),
      "ppt/slides/slide2.xml": slide(shape(["Roofs"], "ctrTitle"), shape(["They turn green."])),
      "ppt/slides/_rels/slide1.xml.rels": rels({ r1: "../notesSlides/notesSlide1.xml" }),
      "ppt/notesSlides/notesSlide1.xml": slide(shape(["Do not forget the mill."], "body")),
    });
    const { title, paragraphs } = await only("/a.pptx", pptx);
    expect(title).toBe("Roofs");
    expect(paragraphs).toEqual([
      { text: "They turn green.", page: 1 },
      { text: "Walls", heading: true, page: 2 },
      { text: "Of slate & stone.", page: 2 },
      { text: "And wood.", page: 2 },
      { text: "Do not forget the mill.", page: 2 },
    ]);
  });
});

describe("books", () => {
  test("pages in reading order, under the book's title", async () => {
    const page = (body: string) =>
      `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>${body}</body></html>`;
    const epub = zip({
      "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
      "OEBPS/book.opf":
        '<package xmlns:dc="dc"><metadata><dc:title>The book of roofs</dc:title></metadata><manifest><item id="a" href="text/a%20b.xhtml"/><item id="b" href="b.xhtml"/><item id="n" href="nav.xhtml" properties="nav"/></manifest>' +
        '<spine><itemref idref="n"/><itemref idref="b"/><itemref idref="a"/></spine></package>',
      "OEBPS/b.xhtml": page("<h1>Copper</h1><p>It turns green.</p>"),
      "OEBPS/text/a b.xhtml": page("<p>The end.</p>"),
      "OEBPS/nav.xhtml": page("<p>Contents</p>"),
    });
    const { documents } = await load("/a.epub", epub);
    expect(documents.map(({ title, paragraphs }) => [title, paragraphs.map(({ text }) => text)])).toEqual([
      ["The book of roofs: Copper", ["Copper", "It turns green."]],
      ["The book of roofs", ["The end."]],
    ]);
  });
});

describe("archives that are not what they claim", () => {
  const archive = zip({ "word/document.xml": "x".repeat(1000) });
  const crowded = zip(Object.fromEntries(Array.from({ length: 20_001 }, (_, index) => [`${index}`, ""])));
  const CENTRAL = Buffer.from("PK\x01\x02");
  /** The archive with another unpacked size in its directory (APPNOTE 4.3.12: 24 bytes after the signature). */
  const claiming = (bytes: number) => {
    const changed = Buffer.from(archive);
    changed.writeUInt32LE(bytes, archive.indexOf(CENTRAL) + 24);
    return changed;
  };

  test.each(["docx", "xlsx", "pptx", "epub"])(
    "%s: too large when unpacked, of a different size than declared, with too many parts, or not an archive",
    async (kind) => {
      expect(await reasonOf(`/a.${kind}`, claiming(600 * 2 ** 20))).toMatch(/unpacks to more than 512 MiB/);
      if (kind === "docx" || kind === "xlsx")
        expect(await reasonOf(`/a.${kind}`, claiming(10))).toMatch(/part word\/document.xml cannot be unpacked/);
      expect(await reasonOf(`/a.${kind}`, crowded)).toMatch(/20001 parts, more than 20000/);
      expect(await reasonOf(`/a.${kind}`, "PK no archive at all")).toMatch(/not a complete file of its kind.*save it again/);
      expect(await reasonOf(`/a.${kind}`, archive)).toMatch(/save it again|could not be parsed|no text/);
    },
  );
});
