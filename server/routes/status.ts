import { Hono } from "hono";
import type { Environment } from "../environment.js";
import { loadOf } from "../load.js";
import type { Shared } from "../service.js";

/** Routes that programs poll for the server's state. */
export const STATUS_ROUTES: ReadonlySet<string> = new Set(["/healthz", "/internal/load", "/metrics"]);

/** `GET /healthz` for orchestration, `GET /internal/load` for load balancers, and `GET /metrics` for Prometheus. */
export function statusRoutes(shared: Shared): Hono<Environment> {
  const { catalogue, draining, waiting, metrics } = shared;
  const [first] = catalogue.offers;
  return new Hono<Environment>()
    .get("/healthz", async (c) => {
      const { chunks } = await first!.totals();
      const models = [...new Set(catalogue.open.map(({ model }) => model))];
      const [status, code] = models.some(({ failure }) => failure)
        ? (["failed", 503] as const)
        : draining()
          ? (["draining", 503] as const)
          : (["ok", 200] as const);
      const running = models.reduce((sum, { activity }) => sum + activity.running, 0);
      return c.json({ status, model: first!.model, corpus: first!.corpus, chunks, waiting: waiting.size, running }, code);
    })
    .get("/internal/load", (c) => c.json(loadOf(shared)))
    .get("/metrics", async (c) => c.body(await metrics.registry.metrics(), 200, { "content-type": metrics.registry.contentType }));
}
