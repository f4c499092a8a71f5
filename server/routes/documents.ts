import { Hono } from "hono";
import { html } from "hono/html";
import type { Environment } from "../environment.js";
import { withService } from "../respond.js";
import type { Shared } from "../service.js";

/** `GET /documents/CORPUS/FILE`: a corpus's document as a page, with its chunks as numbered anchors. Citations link to it. */
export function documentRoutes(shared: Shared): Hono<Environment> {
  return new Hono<Environment>().get("/documents/:corpus/:file{.+}", async (c) => {
    const { corpus: name, file } = c.req.param();
    const chunks = await withService(shared, c.var.offers.find({ corpus: name }), ({ corpus }) => corpus.chunksOf(file));
    const title = chunks[0]?.title ?? file;
    return c.html(html`<!doctype html>
<html lang="und">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title></head>
<body><main><h1>${title}</h1>
${chunks.map(({ text, page }, index) => html`<section id="${index + 1}">${page === undefined ? "" : html`<h2>${page}</h2>`}${paragraphsOf(text).map((each) => html`<p>${each}</p>`)}</section>\n`)}</main></body>
</html>`);
  });
}

function paragraphsOf(text: string): readonly string[] {
  return text.split(/\n{2,}/).filter((each) => each.trim() !== "");
}
