import { describe, expect, test } from "vitest";

import { fieldsOf } from "../../rag/fields.js";
import { loadFile } from "../../rag/load/load.js";
import { matcherOf, parseWhere, type Where } from "../../rag/retrieve/where.js";

describe("conditions", () => {
  const chunk = {
    path: "/home/oda/guides/setup/install.md",
    title: "Install",
    page: 12,
    date: "2024-05-03",
    team: "ops",
    tags: ["linux", "arm"],
    draft: false,
    price: 9.5,
  };

  test.each<[Where, boolean]>([
    [{ team: "ops" }, true],
    [{ team: "web" }, false],
    [{ team: ["web", "ops"] }, true],
    [{ tags: "arm" }, true],
    [{ tags: { not: "arm" } }, false],
    [{ team: { not: ["web", "docs"] } }, true],
    [{ page: 12 }, true],
    [{ page: "12" }, true],
    [{ draft: false }, true],
    [{ draft: "false" }, true],
    [{ page: { from: 9, to: 12 } }, true],
    [{ page: { from: "13" } }, false],
    [{ price: { to: "9.4" } }, false],
    [{ date: { from: "2024" } }, true],
    [{ date: { from: "2024-05-04" } }, false],
    [{ date: { to: "2024-05" } }, true],
    [{ date: { to: "2024-04" } }, false],
    [{ date: { from: "2024", not: "2024-05-03" } }, false],
    [{ team: "ops", page: 13 }, false],
    [{ owner: "ops" }, false],
    [{ owner: { not: "ops" } }, true],
    [{ constructor: "Object" }, false],
    [{}, true],
  ])("%j: %s", (where, expected) => {
    expect(matcherOf(where)(chunk)).toBe(expected);
  });

  test.each([
    ["guides", true],
    ["guides/", true],
    ["install.md", true],
    ["setup/install.md", true],
    ["guides/**/*.md", true],
    ["guides/*.md", false],
    ["*.md", true],
    ["/home/oda/guides", true],
    ["guide", false],
    ["stall.md", false],
  ])("a path %s: %s", (path, expected) => {
    expect(matcherOf({ path })(chunk)).toBe(expected);
  });

  test("are parsed from the command line", () => {
    expect(parseWhere(["team=ops,web", "date>=2024-01-01", "date <= 2024-12", "lang!=de", "title=a=b", "date!=2024-02-01"])).toEqual({
      team: ["ops", "web"],
      date: { from: "2024-01-01", to: "2024-12", not: "2024-02-01" },
      lang: { not: "de" },
      title: "a=b",
    });
    for (const text of ["team", "=x", "team=", "a > 3"])
      expect(() => parseWhere([text])).toThrow(
        expect.objectContaining({ code: "bad_argument", message: expect.stringContaining("KEY=VALUE") }),
      );
    expect(() => parseWhere(["team=a", "team=b"])).toThrow(/second condition on team.*commas/);
  });
});

describe("fields", () => {
  const only = async (path: string, text: string) => (await loadFile(path, Buffer.from(text))).documents;

  test("front matter of Markdown", async () => {
    const [document] = await only(
      "/a.md",
      "---\ntitle: Tides\ndate: 2024-05-03\ntags: [sea, moon]\nauthor:\n  name: Oda\npages: 3\ndraft: true\nempty:\n---\n\nText.",
    );
    expect(document).toMatchObject({
      title: "Tides",
      fields: { date: "2024-05-03", tags: ["sea", "moon"], "author.name": "Oda", pages: 3, draft: true },
    });
    expect(Object.keys(document!.fields!)).toHaveLength(5);
  });

  test("front matter that is not YAML is reported, and its title and the text are read", async () => {
    const { documents, problems } = await loadFile("/a.md", Buffer.from("---\ntitle: Tides: a table\nteam: ops\n---\n\nText."));
    expect(documents).toMatchObject([{ title: "Tides: a table", fields: {}, paragraphs: [{ text: "Text." }] }]);
    expect(problems).toEqual([{ path: "/a.md", reason: expect.stringMatching(/front matter is not YAML \(.*\); correct it/) }]);
  });

  test("records of JSON and CSV, and mails", async () => {
    expect(
      await only("/a.jsonl", '{"title": "A", "text": "One.", "team": "ops", "metadata": {"lang": "en", "tags": ["x", 2]}}'),
    ).toMatchObject([{ fields: { team: "ops", lang: "en", tags: ["x", 2] } }]);
    expect(await only("/a.csv", "Title,Text,Team\nA,One.,ops\n")).toMatchObject([{ title: "A", fields: { team: "ops" } }]);
    expect(
      await only("/a.eml", "From: Oda <oda@example.org>\r\nDate: Fri, 3 May 2024 10:00:00 +0200\r\nSubject: Light\r\n\r\nIt burns.\r\n"),
    ).toMatchObject([{ title: "Light", fields: { from: "Oda <oda@example.org>", date: "2024-05-03T08:00:00Z" } }]);
  });

  test("values that are not fields are left out: long texts, objects within objects, empty values", () => {
    const date = new Date("2024-05-03T00:00:00Z");
    expect(fieldsOf({ a: "x".repeat(1_001), b: { c: { d: 1 }, e: 2 }, f: null, g: "  ", h: [], i: [{}], j: Number.NaN, date })).toEqual({
      "b.e": 2,
      date: "2024-05-03",
    });
  });
});
