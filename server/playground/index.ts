import { Hono } from "hono";
import { readJson } from "../body.js";
import type { Environment } from "../environment.js";
import type { Service } from "../service.js";
import { askRoutes } from "./ask.js";
import { pageAssets } from "./assets.js";
import type { State } from "./events.js";
import { markup, reportMarkup } from "./markup.js";
import { openMarkupFiles } from "./markup-files.js";

/** The playground: its page at `/`, what the page loads below `/playground/`, and its own routes below `/playground/api/`. */
export function playgroundRoutes(service: Service): Hono<Environment> {
  const folder = openMarkupFiles(service.schemasDir);
  return new Hono<Environment>()
    .route("/", pageAssets())
    .route("/", askRoutes(service, folder))
    .get("/playground/api/state", (c) => c.json({ ...stateOf(service), schemas: folder.list() } satisfies State))
    .get("/playground/api/markup", (c) => c.json({ text: folder.read(c.req.query("file") ?? "") }))
    .post("/playground/api/markup", async (c) => c.json(await reportMarkup(await readJson(c, markup), service, folder)));
}

function stateOf({ model, corpus, corpusName, limits }: Service): Omit<State, "schemas"> {
  const { tokens, default: usual } = model.card.linkTokens;
  return {
    model: { name: model.name, contextLength: limits.contextTokens, linkTokens: { most: tokens.length, default: usual } },
    corpora: [{ name: corpusName, ...corpus.totals }],
  };
}
