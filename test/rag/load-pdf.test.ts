import { describe, expect, test } from "vitest";

import { Words } from "../../rag/load/pdf/words.js";
import { load, only, reasonOf } from "../support/rag/loading.js";
import { makePdf, type PdfPage, UNKNOWN_PASSWORD } from "../support/rag/make-pdf.js";

const SENTENCES = [
  "Copper turns green by the sea, and nobody minds.",
  "The roof was laid in the spring of that year.",
  "It has kept the rain out ever since then.",
];

describe("text", () => {
  test("lines become paragraphs, broken words are joined, and each has its page", async () => {
    const pdf = makePdf([["Copper turns", "green by weath-", "ering.", "", "It is protected."], ["On page two."]], {
      title: "Copper roofs",
    });
    const { title, paragraphs } = await only("/a.pdf", pdf);
    expect(title).toBe("Copper roofs");
    expect(paragraphs).toEqual([
      { text: "Copper turns green by weathering.", page: 1 },
      { text: "It is protected.", page: 1 },
      { text: "On page two.", page: 2 },
    ]);
  });

  test("a hyphen stays if the document has the word with it or both its halves, and is removed if it has the word without", async () => {
    const lines = [
      "The mixed-",
      "mode is slow. A well-",
      "known trick helps: weath-",
      "ering. Some know a well",
      "and call it well-known.",
      "A mode may be mixed",
      "by its weathering too.",
    ];
    expect((await only("/a.pdf", makePdf([lines]))).texts).toEqual([
      "The mixed-mode is slow. A well-known trick helps: weathering. Some know a well and call it well-known. A mode may be mixed by its weathering too.",
    ]);
  });

  test("a soft hyphen at a line's end always joins the word", () => {
    const words = new Words(["This oxi is a dation", "and this is by oxi\u00ad", "dation"]);
    expect(words.join("by oxi\u00ad", "dation")).toBe("by oxidation");
    expect(words.join("by oxi-", "dation")).toBe("by oxi-dation");
  });

  test("a line in larger letters is a heading", async () => {
    const placed = [{ text: "Roofs of copper", y: 700, size: 18 }, ...SENTENCES.map((text, index) => ({ text, y: 680 - 14 * index }))];
    const { headings, texts } = await only(
      "/a.pdf",
      makePdf([
        { placed },
        {
          placed: [
            { text: "Second part", y: 700, size: 18 },
            { text: SENTENCES[0]!, y: 680 },
          ],
        },
      ]),
    );
    expect(headings).toEqual(["Second part"]); // the first is the title
    expect(texts).toEqual([SENTENCES.join(" "), "Second part", SENTENCES[0]]);
  });
});

describe("text around the main text", () => {
  const page = (number: number): PdfPage => ({
    placed: [
      { text: number % 2 === 0 ? `${number}` : "The book of roofs", y: 760 },
      ...SENTENCES.map((text, index) => ({ text: `${text} (${number})`, y: 700 - 14 * index })),
      { text: `Page ${number} of 7`, y: 40 },
    ],
  });

  test("running heads, footers and page numbers are left out", async () => {
    const { texts } = await only("/a.pdf", makePdf([1, 2, 3, 4, 5, 6, 7].map(page)));
    expect(texts).toEqual([1, 2, 3, 4, 5, 6, 7].map((number) => SENTENCES.map((text) => `${text} (${number})`).join(" ")));
  });

  test("a running head with a chapter's name is recognised by its page number", async () => {
    const heads = ["Chapter One", "Chapter One", "Chapter Two", "Of the sea", "At the end"];
    const pdf = makePdf(
      heads.map((head, index) => ({
        placed: [{ text: `${head} ${index + 11}`, y: 760 }, ...SENTENCES.map((text, line) => ({ text, y: 700 - 14 * line }))],
      })),
    );
    expect(new Set((await only("/a.pdf", pdf)).texts)).toEqual(new Set([SENTENCES.join(" ")]));
  });

  test("entries of a table of contents keep their words, without dots and page numbers", async () => {
    const pdf = makePdf([
      ["1 Copper . . . . . . . . . . . . . 3", "1.1 Green roofs ............... 14", "Index . . . . . . . . . . . . . . . xii"],
      SENTENCES,
    ]);
    expect((await only("/a.pdf", pdf)).texts).toEqual(["1 Copper\n1.1 Green roofs\nIndex", SENTENCES.join(" ")]);
  });
});

describe("titles", () => {
  const placed = [
    { text: "Report on the", y: 700, size: 20 },
    { text: "copper roofs", y: 676, size: 20 },
    ...SENTENCES.map((text, index) => ({ text, y: 600 - 14 * index })),
  ];

  test.each(["Microsoft Word - Document1", "Document1", "untitled", "report_final2.docx", "Another book", undefined])(
    "%s gives way to what the first page says",
    async (title) => {
      expect((await only("/a.pdf", makePdf([{ placed }], title === undefined ? {} : { title }))).title).toBe("Report on the copper roofs");
    },
  );

  test("the metadata's title is used if the first page confirms it or has no other; otherwise the file's name", async () => {
    expect((await only("/a.pdf", makePdf([{ placed }], { title: "Copper Roofs" }))).title).toBe("Copper Roofs");
    expect((await only("/a.pdf", makePdf([SENTENCES], { title: "Something else" }))).title).toBe("Something else");
    expect((await only("/green-roof.pdf", makePdf([SENTENCES], { title: "Microsoft Word - Document1" }))).title).toBe("green roof");
  });
});

describe("pages that cannot be read are reported, and the others are read", () => {
  const read = makePdf([SENTENCES]);

  test("damaged pages", async () => {
    const { documents, problems } = await load("/a.pdf", makePdf([SENTENCES, { damaged: true }]));
    expect(documents[0]!.paragraphs).toEqual([{ text: SENTENCES.join(" "), page: 1 }]);
    expect(problems).toMatchObject([{ path: "/a.pdf", pages: [2], reason: expect.stringMatching(/Damaged.*qpdf/) }]);
  });

  test("pages whose letters are mapped to others", async () => {
    // As from a font without a Unicode map: each code is 29 below its letter's.
    const garbled = SENTENCES.map((text) =>
      Array.from(
        text,
        (letter) =>
          `\\${Math.max(1, letter.charCodeAt(0) - 29)
            .toString(8)
            .padStart(3, "0")}`,
      ).join(""),
    );
    const { documents, problems } = await load("/a.pdf", makePdf([garbled, SENTENCES]));
    expect(documents[0]!.paragraphs).toEqual([{ text: SENTENCES.join(" "), page: 2 }]);
    expect(problems).toMatchObject([{ pages: [1], reason: expect.stringMatching(/Unreadable text.*--ocr/) }]);
  });

  test("the placeholder of a form that only Adobe's programs show", async () => {
    const lines = [
      "Please wait...",
      "If this message is not eventually replaced with the proper contents of the document, your PDF",
      "viewer may not be able to display this type of document.",
    ];
    const { documents, problems } = await load("/a.pdf", makePdf([lines]));
    expect(documents).toEqual([]);
    expect(problems).toMatchObject([{ pages: [1], reason: expect.stringMatching(/placeholder.*new PDF/) }]);
  });

  test("pictures; a page with a picture and words is read, and one problem names all pages with the same reason", async () => {
    const { documents, problems } = await load(
      "/a.pdf",
      makePdf([{ picture: true }, { lines: SENTENCES, picture: true }, { picture: true }, []]),
    );
    expect(documents[0]!.paragraphs).toEqual([{ text: SENTENCES.join(" "), page: 2 }]);
    expect(problems).toMatchObject([{ pages: [1, 3], reason: expect.stringMatching(/picture without a text layer.*--ocr/) }]);
  });

  test("for broken, encrypted and empty files the message says what to do", async () => {
    expect(await reasonOf("/a.pdf", read.subarray(0, 200))).toMatch(/broken.*qpdf/);
    expect(await reasonOf("/a.pdf", "no pdf at all")).toMatch(/broken/);
    expect(await reasonOf("/a.pdf", makePdf([SENTENCES], { encrypt: UNKNOWN_PASSWORD }))).toMatch(/encrypted.*--decrypt/);
    expect(await reasonOf("/a.pdf", makePdf([[]]))).toMatch(/--ocr/);
  });
});

describe("reading pictures", () => {
  const pdf = makePdf([{ picture: true }, SENTENCES]);

  test("a command gets the page as a PNG, and its output is the page's text", async () => {
    const command = `node -e "let n=0,h;process.stdin.on('data',d=>{h??=d.toString('latin1',1,4);n+=d.length}).on('end',()=>console.log('A '+h+' of some size: '+(n>500)+'.'))"`;
    const { paragraphs } = await only("/a.pdf", pdf, { ocr: command });
    expect(paragraphs).toEqual([
      { text: "A PNG of some size: true.", page: 1 },
      { text: SENTENCES.join(" "), page: 2 },
    ]);
  });

  test("a picture in which it finds nothing is reported", async () => {
    expect((await load("/a.pdf", pdf, { ocr: "true" })).problems).toMatchObject([
      { pages: [1], reason: expect.stringContaining("found no text") },
    ]);
  });

  test("a command that fails is reported with its last line of output, and the other pages are read", async () => {
    const { documents, problems } = await load("/a.pdf", pdf, { ocr: "echo no such language >&2; exit 3" });
    expect(documents[0]!.paragraphs).toHaveLength(1);
    expect(problems).toMatchObject([{ pages: [1], reason: expect.stringContaining("failed (no such language)") }]);
  });
});

test("cancelling ends reading between pages, and while a command reads one", async () => {
  await expect(load("/a.pdf", makePdf([SENTENCES]), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "cancelled" });
  const stop = new AbortController();
  const reading = load("/a.pdf", makePdf([{ picture: true }, SENTENCES]), { ocr: "sleep 60", signal: stop.signal });
  setTimeout(() => stop.abort(), 300);
  await expect(reading).rejects.toMatchObject({ code: "cancelled" });
});

test("the values of a form's fields are read with their names", async () => {
  const { paragraphs } = await only(
    "/a.pdf",
    makePdf([{ lines: ["Application"], fields: { Name: "Oda Halvorsen", Harbour: "Brenna Point", Remarks: "" } }]),
  );
  expect(paragraphs).toEqual([
    { text: "Application", page: 1 },
    { text: "Name: Oda Halvorsen\nHarbour: Brenna Point", page: 1 },
  ]);
});
