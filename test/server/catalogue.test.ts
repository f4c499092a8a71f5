import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ConversationRecords } from "../../chat/index.js";
import { openBlockStore } from "../../engine/index.js";
import { openCorpus } from "../../rag/index.js";
import { parseApiKeys, Rate } from "../../server/api-key.js";
import { Catalogue, type Offer } from "../../server/catalogue.js";
import { createApp, createServer, type Listening, listen, type Service, Uploads } from "../../server/index.js";
import { fakeEmbedder, fakeModel } from "../support/rag/fakes.js";
import { wordyModel } from "../support/server/fake-serving.js";

describe("a catalogue", () => {
  /** Offers of 100 bytes each, with memory for only some of them. */
  function offered(names: readonly string[], memory_bytes: number) {
    const events: string[] = [];
    let free = memory_bytes;
    const offers = names.map(
      (corpus): Offer => ({
        model: "m",
        corpus,
        needs_bytes: () => 100,
        totals: async () => ({ files: 0, chunks: 0, tokens: 0 }),
        async open() {
          events.push(`open ${corpus}`);
          if (corpus === "broken") throw new Error("broken");
          free -= 100;
          return { model: fakeModel() } as never;
        },
      }),
    );
    for (const offer of offers) {
      const { open } = offer;
      Object.assign(offer, {
        open: async () => Object.assign(await open(), { close: async () => void (events.push(`close ${offer.corpus}`), (free += 100)) }),
      });
    }
    const catalogue = new Catalogue(offers, (opened, corpusName) => ({ ...opened, corpusName }) as Service, {
      memory: () => free,
      onUnload: ({ corpus }) => events.push(`unloaded ${corpus}`),
    });
    return { catalogue, offers, events };
  }

  test("opens what is requested, once, for all requests", async () => {
    const { catalogue, offers, events } = offered(["a", "b"], 1_000);
    expect(catalogue.open).toHaveLength(0);
    const leases = await Promise.all([catalogue.lease(offers[1]!), catalogue.lease(offers[1]!)]);
    expect(leases[0]!.service).toBe(leases[1]!.service);
    expect(leases[0]!.service.corpusName).toBe("b");
    expect(events).toEqual(["open b"]);
  });

  test("closes unused offers when memory is short, least recently used first", async () => {
    const { catalogue, offers, events } = offered(["a", "b", "c", "d"], 250);
    for (const offer of offers.slice(0, 2)) (await catalogue.lease(offer)).release();
    for (const start = Date.now(); Date.now() <= start + 1; ) await new Promise(setImmediate); // a later millisecond
    (await catalogue.lease(offers[0]!)).release();
    await catalogue.lease(offers[2]!); // and does not release it
    expect(events).toEqual(["open a", "open b", "close b", "unloaded b", "open c"]);
    await catalogue.lease(offers[3]!);
    expect(events.slice(5)).toEqual(["close a", "unloaded a", "open d"]);
    await catalogue.lease(offers[1]!); // nothing is idle: it is opened anyway
    expect(events.slice(8)).toEqual(["open b"]);
  });

  test("retries what failed to open, and closes everything at the end", async () => {
    const { catalogue, offers, events } = offered(["broken", "a"], 1_000);
    for (let i = 0; i < 2; i++) await expect(catalogue.lease(offers[0]!)).rejects.toThrow("broken");
    await catalogue.lease(offers[1]!);
    await catalogue.close();
    expect(events).toEqual(["open broken", "open broken", "open a", "close a"]);
  });

  test("finds an offer by model, by corpus, or by both, and lists what there is", () => {
    const { catalogue, offers } = offered(["a", "b"], 1_000);
    expect(catalogue.ids).toEqual(["m", "m/a", "m/b"]);
    expect(catalogue.find({})).toBe(offers[0]);
    expect(catalogue.find({ model: "m:latest" })).toBe(offers[0]);
    expect(catalogue.find({ model: "m/b" })).toBe(offers[1]);
    expect(catalogue.find({ model: "default", corpus: "b" })).toBe(offers[1]);
    expect(() => catalogue.find({ model: "n" })).toThrow(
      expect.objectContaining({ status: 404, message: expect.stringContaining("'m/b'") }),
    );
    expect(() => catalogue.find({ model: "m/a", corpus: "b" })).toThrow(expect.objectContaining({ status: 404, code: "corpus_not_found" }));
  });
});

describe("a server with two corpora and two models", () => {
  const TEXTS = { harbour: "The harbour master keeps the lock open until nine.", mill: "The mill grinds rye on Mondays." };
  const folders: string[] = [];
  const opened: string[] = [];
  let listening: Listening;
  let catalogue: Catalogue;
  beforeAll(async () => {
    const offers = await Promise.all([offerOf("harbour", "kvsplice-135m"), offerOf("mill", "other")]);
    const shared = createServer(
      {
        embedder: fakeEmbedder(),
        apiKeys: [{ key: "all" }, { key: "mill", corpora: ["mill"] }, { key: "slow", requests_per_minute: 2 }],
        corsOrigins: [],
        limits: { queue: 64, contextTokens: Infinity, request_ms: 60_000, body_bytes: 2 ** 20 },
        log: pino({ level: "silent" }),
      },
      offers,
    );
    ({ catalogue } = shared);
    listening = await listen(createApp(shared), shared, { host: "127.0.0.1", port: 0 });
  });
  afterAll(async () => {
    await listening.drain();
    await catalogue.close();
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  async function offerOf(corpus: keyof typeof TEXTS, name: string): Promise<Offer> {
    const folder = mkdtempSync(join(tmpdir(), "kvsplice-offer-"));
    folders.push(folder);
    const { model: words } = await wordyModel();
    const model = Object.assign(words, { name });
    const open = async () => {
      opened.push(corpus);
      const store = openBlockStore({ memory: { budget: 2 ** 24 } });
      const own = await openCorpus(folder, { model, store, embedder: fakeEmbedder(), create: true });
      const file = join(folder, `${corpus}.txt`);
      writeFileSync(file, TEXTS[corpus]);
      await own.precompute([file]);
      const records = ConversationRecords.open(join(folder, "conversations.lmdb"), {
        maxTokens: 1_000,
        maxAge_ms: 1_000_000,
        forget: () => undefined,
      });
      const close = async () => {
        await records.close();
        await own.close();
        await store.close();
      };
      return { model, store, corpus: own, records, uploads: new Uploads(join(folder, "documents")), close };
    };
    return { model: name, corpus, needs_bytes: () => 0, totals: async () => ({ files: 0, chunks: 0, tokens: 0 }), open };
  }

  test("lists each model, by itself and with its corpora, and opens what is requested", async () => {
    const { data } = (await (await get("/v1/models")).json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual(["kvsplice-135m", "kvsplice-135m/harbour", "other", "other/mill"]);
    expect(opened).toEqual([]);
    expect(await ask({ model: "other" })).toMatchObject({ model: "other", choices: [{}] });
    expect(opened).toEqual(["mill"]);
  });

  test("answers over the corpus that a request names in either way, with its pages", async () => {
    const ways = [
      { model: "kvsplice-135m/harbour" },
      { corpus: { name: "harbour" } },
      { model: "kvsplice-135m", corpus: "harbour" },
      { corpus: true },
    ];
    for (const fields of ways) expect((await ask(fields)).kvsplice.sources).toMatchObject([{ corpus: "harbour", ref: "harbour.txt#1" }]);
    const { model, kvsplice } = await ask({ model: "other/mill" });
    expect(model).toBe("other");
    expect(await (await fetch(kvsplice.sources![0]!.url, { headers: { authorization: "Bearer all" } })).text()).toContain("grinds rye");
    expect((await ask({ model: "kvsplice-135m/harbour", corpus: { name: "mill" } })).error).toMatchObject({ code: "corpus_not_found" });
  });

  test("shows the playground all corpora, and metrics for everything open", async () => {
    const { corpora } = (await (await get("/playground/api/state")).json()) as { corpora: { name: string }[] };
    expect(corpora.map(({ name }) => name)).toEqual(["harbour", "mill"]);
    expect(await (await get("/metrics")).text()).toMatch(/^kvsplice_conversation_tokens [1-9]/m);
  });

  test("a key that is limited to one corpus cannot see others by any route", async () => {
    const limited = (path: string) => get(path, "mill");
    const ids = async (path: string) => ((await (await limited(path)).json()) as { data: { id: string }[] }).data.map(({ id }) => id);
    expect(await ids("/v1/models")).toEqual(["other", "other/mill"]);
    expect(await ids("/v1/corpora")).toEqual(["mill"]);
    expect(((await (await limited("/playground/api/state")).json()) as { corpora: object[] }).corpora).toMatchObject([{ name: "mill" }]);
    for (const path of ["/v1/corpora/harbour/documents", "/documents/harbour/harbour.txt", "/v1/models/kvsplice-135m"])
      expect((await limited(path)).status).toBe(404);
    for (const fields of [{ model: "kvsplice-135m" }, { model: "kvsplice-135m/harbour" }, { corpus: { name: "harbour" } }]) {
      const { error } = await ask(fields, "mill");
      expect(error).toMatchObject({ code: expect.stringMatching(/not_found/) });
      expect(JSON.stringify(error)).not.toMatch(/'harbour'|kvsplice-135m'/);
    }
    expect((await ask({ corpus: true }, "mill")).kvsplice.sources).toMatchObject([{ corpus: "mill" }]);
  });

  test("a rate-limited key is told when to try again", async () => {
    const statuses = [await get("/v1/models", "slow"), await get("/v1/models", "slow"), await get("/v1/models", "slow")];
    expect(statuses.map(({ status }) => status)).toEqual([200, 200, 429]);
    expect(Number(statuses[2]!.headers.get("retry-after"))).toBeGreaterThan(20);
    expect(await statuses[2]!.json()).toMatchObject({ error: { type: "rate_limit_error", code: "rate_limit_exceeded" } });
    expect((await get("/v1/models")).status).toBe(200);
  });

  const get = (path: string, key = "all") => fetch(listening.url + path, { headers: { authorization: `Bearer ${key}` } });
  type Answered = { model: string; choices: object[]; kvsplice: { sources?: { url: string }[] }; error?: object };
  async function ask(fields: object, key = "all"): Promise<Answered> {
    const body = JSON.stringify({ messages: [{ role: "user", content: "What is kept or ground?" }], max_tokens: 2, ...fields });
    return (await (
      await fetch(`${listening.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
        body,
      })
    ).json()) as Answered;
  }
});

test("a rate refills evenly, up to one minute's requests", () => {
  let now_ms = 0;
  const rate = new Rate(30, () => now_ms);
  expect(Array.from({ length: 31 }, () => rate.take())).toEqual([...Array.from({ length: 30 }, () => 0), 2]);
  now_ms = 1_999;
  expect(rate.take()).toBe(1);
  now_ms = 2_000;
  expect([rate.take(), rate.take()]).toEqual([0, 2]);
  now_ms = 600_000;
  expect(Array.from({ length: 31 }, () => rate.take()).filter((wait) => wait === 0)).toHaveLength(30);
});

test("keys are read from a file, and an invalid file is reported", () => {
  expect(parseApiKeys('[{"key": "a", "corpora": ["x"]}, {"key": "b"}]', "keys.json")).toEqual([{ key: "a", corpora: ["x"] }, { key: "b" }]);
  for (const text of ["{", "[]", '[{"key": ""}]', '[{"key": "a", "requests_per_minute": 0}]', '[{"key": "a", "corpus": "x"}]']) {
    expect(() => parseApiKeys(text, "keys.json")).toThrow(
      expect.objectContaining({ code: "bad_file", message: expect.stringMatching(/^keys\.json is not a list of keys/) }),
    );
  }
});
