import { Hono } from "hono";
import { linkText } from "../../engine/index.js";
import { readJson } from "../body.js";
import type { Address, OfferList } from "../catalogue.js";
import type { Environment } from "../environment.js";
import { withService } from "../respond.js";
import type { Shared } from "../service.js";
import { askRoutes } from "./ask.js";
import { pageAssets } from "./assets.js";
import type { State } from "./events.js";
import { markup, reportMarkup } from "./markup.js";
import { type MarkupFiles, openMarkupFiles } from "./markup-files.js";

/** The playground: its page at `/`, the page's files under `/playground/`, and its routes under `/playground/api/`. */
export function playgroundRoutes(shared: Shared): Hono<Environment> {
  const folder = openMarkupFiles(shared.schemasDir);
  return new Hono<Environment>()
    .route("/", pageAssets())
    .route("/", askRoutes(shared, folder))
    .get("/playground/api/state", async (c) => {
      const { model, corpus } = c.req.query();
      return c.json((await stateOf(shared, c.var.offers, { model, corpus }, folder)) satisfies State);
    })
    .get("/playground/api/markup", (c) => c.json({ text: folder.read(c.req.query("file") ?? "") }))
    .post("/playground/api/markup", async (c) => {
      const text = await readJson(c, markup);
      return c.json(await withService(shared, c.var.offers.find({}), (service) => reportMarkup(text, service, folder, c.req.raw.signal)));
    });
}

async function stateOf(shared: Shared, list: OfferList, asked: Address, folder: MarkupFiles): Promise<State> {
  const model = await withService(shared, list.find(asked), ({ model: { name, card, sampling }, limits, corpus, link = corpus.link }) => {
    const { tokens, default: usual } = card.linkTokens;
    return {
      name,
      contextLength: limits.contextTokens,
      linkTokens: { most: tokens.length, default: usual },
      link: linkText(link),
      temperature: sampling.temperature ?? 0,
    };
  });
  const corpora = list.offers.map(async (offer) => ({ name: offer.corpus, model: offer.model, ...(await offer.totals()) }));
  const { schemas, more } = folder.list();
  return { model, corpora: await Promise.all(corpora), schemas, more_schemas: more, upload_bytes: shared.limits.body_bytes };
}
