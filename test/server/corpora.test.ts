import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove, type Serving } from "../support/server/serving.js";

const KEY = "secret";
let serving: Serving;
beforeAll(async () => {
  serving = await startFakeServing({ apiKeys: [KEY], corsOrigins: ["https://chat.example"] });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
});

const DOCUMENTS = "/v1/corpora/articles/documents";
const authorization = `Bearer ${KEY}`;

async function call(
  method: string,
  path: string,
  { body, headers = {} }: { body?: object | FormData | undefined; headers?: Record<string, string> } = {},
): Promise<{ status: number; body: any }> {
  const isForm = body instanceof FormData;
  const response = await fetch(serving.url + path, {
    method,
    headers: { authorization, ...(body && !isForm && { "content-type": "application/json" }), ...headers },
    ...(body && { body: isForm ? body : JSON.stringify(body) }),
  });
  return { status: response.status, body: await response.json() };
}
const list = async () => ((await call("GET", DOCUMENTS)).body.data as { id: string }[]).map(({ id }) => id);

async function sourcesOf(question: string): Promise<readonly { ref: string; text: string }[]> {
  const { body } = await call("POST", "/v1/chat/completions", {
    body: { messages: [{ role: "user", content: question }], corpus: { documents: 1 }, max_tokens: 1 },
  });
  return body.kvsplice.sources;
}

function form(files: Readonly<Record<string, string>>): FormData {
  const data = new FormData();
  for (const [name, text] of Object.entries(files)) data.append("files", new Blob([text]), name);
  return data;
}

test("corpora and their documents are listed without paths", async () => {
  expect((await call("GET", "/v1/corpora")).body.data).toMatchObject([{ id: "articles", model: "kvsplice-135m", documents: 3, chunks: 3 }]);
  expect(await list()).toEqual(["bread.md", "ferry.txt", "lighthouse.md"]);
  expect(JSON.stringify(await call("GET", DOCUMENTS))).not.toContain(serving.folder);
});

describe("an added document", () => {
  test("as text is found by questions at once, cited at a page of the server, and removed with its file", async () => {
    const { status, body } = await call("POST", DOCUMENTS, {
      body: { documents: [{ title: "Tide table", text: "High water at Quillbay comes at seven." }] },
    });
    expect([status, body]).toMatchObject([
      200,
      { object: "corpus.addition", documents: [{ id: "Tide-table.md", chunks: 1 }], encoded: 1, problems: [], corpus: { chunks: 4 } },
    ]);
    const [source] = await sourcesOf("When does high water come at Quillbay?");
    expect(source).toMatchObject({ ref: "Tide-table.md#1", title: "Tide table", text: expect.stringContaining("seven") });
    expect(existsSync(join(serving.folder, "documents", "Tide-table.md"))).toBe(true);

    expect((await call("DELETE", `${DOCUMENTS}/Tide-table.md`)).body).toEqual({
      object: "document.deleted",
      id: "Tide-table.md",
      deleted: true,
      corpus: { documents: 3, chunks: 3, tokens: expect.any(Number) },
    });
    expect(await list()).not.toContain("Tide-table.md");
    expect(existsSync(join(serving.folder, "documents", "Tide-table.md"))).toBe(false);
    expect((await sourcesOf("When does high water come at Quillbay?"))[0]!.ref).not.toBe("Tide-table.md#1");
  });

  test("as a file from a form is read by its type, and replaces one with the same name", async () => {
    const first = await call("POST", DOCUMENTS, {
      body: form({ "fees.csv": "berth,fee\nnorth quay,12\n", "notes.txt": "The north quay is dredged in March." }),
    });
    expect(first.body.documents.map(({ id }: { id: string }) => id)).toEqual(["fees.csv", "notes.txt"]);
    const second = await call("POST", DOCUMENTS, { body: form({ "notes.txt": "The north quay is dredged in April." }) });
    expect(second.body).toMatchObject({ documents: [{ id: "notes.txt" }], encoded: 1, corpus: { chunks: first.body.corpus.chunks } });
    expect((await sourcesOf("When is the north quay dredged?"))[0]!.text).toContain("April");
    expect((await call("POST", DOCUMENTS, { body: form({ "notes.txt": "The north quay is dredged in April." }) })).body).toMatchObject({
      unchanged: 1,
      encoded: 0,
    });
  });

  test("streams progress, and a report at the end", async () => {
    const response = await fetch(`${serving.url}${DOCUMENTS}?stream=true`, {
      method: "POST",
      headers: { authorization },
      body: form({ "a.txt": "The crane lifts four tons.", "b.txt": "The shed holds nets." }),
    });
    const events = (await response.text())
      .trim()
      .split("\n\n")
      .map(
        (event) => JSON.parse(event.slice("data: ".length)) as { type: string; document?: string; files: { done: number; total: number } },
      );
    expect(events.at(-1)).toMatchObject({ type: "done", encoded: 2 });
    const progress = events.slice(0, -1);
    expect(new Set(progress.map(({ type }) => type))).toEqual(new Set(["progress"]));
    expect(progress.at(-1)!.files).toEqual({ done: 2, total: 2 });
    expect(JSON.stringify(events)).not.toContain(serving.folder);
  });

  test("without text is reported, and not kept", async () => {
    const { status, body } = await call("POST", DOCUMENTS, { body: form({ "broken.pdf": "this is no PDF" }) });
    expect([status, body.documents, body.problems]).toEqual([200, [], [{ document: "broken.pdf", reason: expect.stringMatching(/PDF/) }]]);
    expect(readdirSync(join(serving.folder, "documents"))).not.toContain("broken.pdf");
  });

  test("is added at the same time as others", async () => {
    const names = ["one", "two", "three"];
    const added = await Promise.all(
      names.map((name) => call("POST", DOCUMENTS, { body: { documents: [{ name: `${name}.txt`, text: `Buoy ${name} is red.` }] } })),
    );
    expect(added.map(({ body }) => body.encoded)).toEqual([1, 1, 1]);
    expect(await list()).toEqual(expect.arrayContaining(names.map((name) => `${name}.txt`)));
  });
});

describe("what is refused", () => {
  test.each(["../out.txt", "a/b.txt", "a\\b.txt", ".env", `${"x".repeat(300)}.txt`, "program.exe", "nul\0.txt"])(
    "the name %j, and nothing is written",
    async (name) => {
      const before = await list();
      const { status, body } = await call("POST", DOCUMENTS, {
        body: {
          documents: [
            { name: "fine.txt", text: "Fine." },
            { name, text: "a" },
          ],
        },
      });
      expect([status, body.error.param]).toEqual([400, "name"]);
      expect(await list()).toEqual(before);
      expect(existsSync(join(serving.folder, "documents", "fine.txt"))).toBe(false);
    },
  );

  test.each<[string, string, object | undefined, number]>([
    ["GET", "/v1/corpora/others/documents", undefined, 404],
    ["POST", "/v1/corpora/others/documents", { documents: [{ name: "a.txt", text: "a" }] }, 404],
    ["POST", DOCUMENTS, { documents: [] }, 400],
    ["POST", DOCUMENTS, { documents: [{ text: "no name" }] }, 400],
    ["DELETE", `${DOCUMENTS}/nothing.md`, undefined, 404],
  ])("%s %s of %j: %i", async (method, path, body, status) => {
    expect((await call(method, path, { body })).status).toBe(status);
  });

  test("requests without a key", async () => {
    for (const [method, path] of [
      ["GET", "/v1/corpora"],
      ["POST", DOCUMENTS],
      ["DELETE", `${DOCUMENTS}/bread.md`],
    ] as const) {
      expect((await call(method, path, { headers: { authorization: "Bearer wrong" } })).status).toBe(401);
    }
    expect(await list()).toContain("bread.md");
  });

  test("a form from a page of another origin, unless that is allowed: browsers send it without a preflight", async () => {
    const from = (origin: string) => call("POST", DOCUMENTS, { body: form({ "gull.txt": "The gull is white." }), headers: { origin } });
    expect((await from("https://evil.example")).status).toBe(403);
    expect((await from("https://chat.example")).status).toBe(200);
    expect((await from(serving.url)).status).toBe(200);
  });

  test("a body that is too large", async () => {
    expect((await call("POST", DOCUMENTS, { body: form({ "big.txt": "a".repeat(2 ** 21) }) })).status).toBe(413);
  });
});
