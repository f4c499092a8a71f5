import { Hono } from "hono";
import type { Environment } from "../environment.js";
import type { Service } from "../service.js";

/** `GET /healthz` for whoever starts and stops servers, and `GET /metrics` for Prometheus. */
export function statusRoutes({ model, corpusName, corpus, waiting, metrics }: Service): Hono<Environment> {
  return new Hono<Environment>()
    .get("/healthz", (c) => c.json({ status: "ok", model: model.name, corpus: corpusName, chunks: corpus.totals.chunks, waiting: waiting.size, running: model.activity.running }))
    .get("/metrics", async (c) => c.body(await metrics.registry.metrics(), 200, { "content-type": metrics.registry.contentType }));
}
