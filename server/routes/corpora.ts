import { basename } from "node:path";
import { Hono } from "hono";
import pLimit, { type LimitFunction } from "p-limit";
import type { Corpus, CorpusFile, Report } from "../../rag/index.js";
import type { Environment } from "../environment.js";
import { readUploads } from "../requests/uploads.js";
import { respondFrom, withService } from "../respond.js";
import type { Service, Shared } from "../service.js";

/** `/v1/corpora`, where clients list and change corpora and their documents. */
export function corpusRoutes(shared: Shared): Hono<Environment> {
  const { corsOrigins, strict = false } = shared;
  /** Each corpus is changed by one request at a time. */
  const turns = new WeakMap<Corpus, LimitFunction>();
  const inTurn = <T>({ corpus }: Service, change: () => Promise<T>): Promise<T> => {
    const turn = turns.get(corpus) ?? pLimit(1);
    turns.set(corpus, turn);
    return turn(change);
  };

  return new Hono<Environment>()
    .get("/v1/corpora", async (c) => {
      const offers = c.var.offers.offers.filter(({ corpus }) => corpus !== "");
      const data = await Promise.all(
        offers.map(async ({ model, corpus, totals }) => ({ object: "corpus", id: corpus, model, ...countsOf(await totals()) })),
      );
      return c.json({ object: "list", data });
    })
    .get("/v1/corpora/:corpus/documents", (c) =>
      withService(shared, c.var.offers.find({ corpus: c.req.param("corpus") }), ({ corpus }) =>
        c.json({ object: "list", data: Array.from(corpus.files(), describe) }),
      ),
    )
    .post("/v1/corpora/:corpus/documents", async (c) => {
      const offer = c.var.offers.find({ corpus: c.req.param("corpus") });
      const { files, stream } = await readUploads(c, { strict, corsOrigins });
      return respondFrom(c, shared, offer, { stream }, async ({ service, signal, leave }) => {
        leave();
        const { corpus, uploads } = service;
        const add = (onProgress?: (progress: object) => void) =>
          inTurn(service, async () => {
            const paths = uploads.write(files);
            const report = await corpus.precompute(paths, {
              signal,
              onProgress: onProgress && (({ path, ...rest }) => onProgress({ type: "progress", document: basename(path), ...rest })),
            });
            const held = new Map(Array.from(corpus.files(), (file) => [file.path, file]));
            // A file without text is not a document.
            const empty = paths.filter((path) => !held.get(path)?.chunks);
            for (const path of empty) uploads.remove(path);
            const noted = empty.filter((path) => held.has(path));
            if (noted.length > 0) await corpus.remove(noted);
            return reportOf(
              report,
              paths.flatMap((path) => held.get(path) ?? []),
            );
          });
        return {
          whole: () => add(),
          stream: async (send) => send({ type: "done", ...(await add(send)) }),
        };
      });
    })
    .delete("/v1/corpora/:corpus/documents/:name{.+}", (c) => {
      const { corpus: name, name: document } = c.req.param();
      return withService(shared, c.var.offers.find({ corpus: name }), (service) =>
        inTurn(service, async () => {
          const { corpus, uploads } = service;
          const { name, path } = corpus.file(document);
          const left = await corpus.remove([path]);
          uploads.remove(path);
          return c.json({ object: "document.deleted", id: name, deleted: true, corpus: countsOf(left) });
        }),
      );
    });
}

/** A document for clients, without its path. */
function describe({ name, chunks, tokens, problems }: CorpusFile) {
  return { object: "document", id: name, chunks, tokens, ...(problems.length > 0 && { problems: problems.map(({ reason }) => reason) }) };
}

function countsOf({ files, chunks, tokens }: { readonly files: number; readonly chunks: number; readonly tokens: number }) {
  return { documents: files, chunks, tokens };
}

function reportOf({ unchanged, encoded, problems, chunks, tokens }: Report, documents: readonly CorpusFile[]) {
  return {
    object: "corpus.addition",
    documents: documents.filter((file) => file.chunks > 0).map(describe),
    unchanged,
    /** Blocks. */
    encoded,
    problems: problems.map(({ path, reason }) => ({ document: basename(path), reason })),
    corpus: { chunks, tokens },
  };
}
