import { randomUUID } from "node:crypto";
import { Hono } from "hono";
import { cors } from "hono/cors";
import { routePath } from "hono/route";
import { secureHeaders } from "hono/secure-headers";
import { onlyLoopbackNames, onlyWithKey } from "./access.js";
import { AFFINITY_HEADER, withAffinity } from "./affinity.js";
import type { Environment } from "./environment.js";
import { ApiError, apiErrorOf, CLIENT_GONE } from "./error.js";
import { meantPath } from "./paths.js";
import { playgroundRoutes } from "./playground/index.js";
import { chatRoutes } from "./routes/chat.js";
import { completionRoutes } from "./routes/completions.js";
import { corpusRoutes } from "./routes/corpora.js";
import { documentRoutes } from "./routes/documents.js";
import { embeddingRoutes } from "./routes/embeddings.js";
import { modelRoutes } from "./routes/models.js";
import { rerankRoutes } from "./routes/rerank.js";
import { responseRoutes } from "./routes/responses.js";
import { STATUS_ROUTES, statusRoutes } from "./routes/status.js";
import { tokenRoutes } from "./routes/tokens.js";
import type { Shared } from "./service.js";
import { withTrace } from "./trace.js";

/** A browser repeats its preflight request after an hour. */
const PREFLIGHT_s = 3_600;

/** All routes of the server. The caller opens and closes what it answers from. */
export function createApp(shared: Shared): Hono<Environment> {
  const { apiKeys, catalogue, corsOrigins, limits, log, metrics } = shared;
  const app = new Hono<Environment>({ getPath: ({ url }) => meantPath(new URL(url).pathname) });
  app.use(async (c, next) => {
    const id = `req_${randomUUID()}`;
    const start = performance.now();
    c.set("log", log.child({ request: id }));
    c.set("bodyLimit_bytes", limits.body_bytes);
    await next();
    // Set here, so that a stream's response has it too.
    c.header("x-request-id", id);
    const [route, { status }] = [routePath(c, -1), c.res];
    const count = (status: number) => {
      metrics.request(route, status);
      const level = status < 400 && STATUS_ROUTES.has(route) ? "debug" : "info"; // balancers ask every second
      c.var.log[level]({ method: c.req.method, path: c.req.path, status, ms: Math.round(performance.now() - start) }, "request");
    };
    // A stream is counted when it ends, by its result.
    if (c.var.ended) void c.var.ended.then(count);
    else count(status);
  });
  app.use(
    secureHeaders({
      // The server speaks plain HTTP; a TLS proxy in front of it sets this header itself.
      strictTransportSecurity: false,
      xFrameOptions: "DENY",
      // Only the playground's files and routes: nothing from elsewhere, nothing inline, no text turned into markup.
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'"],
        connectSrc: ["'self'"],
        frameAncestors: ["'none'"],
        baseUri: ["'none'"],
        formAction: ["'none'"],
        requireTrustedTypesFor: ["'script'"],
        trustedTypes: ["'none'"],
      },
    }),
  );
  for (const path of ["/v1/*", "/playground/api/*"]) app.use(path, withTrace());
  if (shared.affinity) app.use(withAffinity());
  if (apiKeys.length === 0) app.use(onlyLoopbackNames());
  // Before the check for keys, because a browser's preflight request does not contain the key.
  if (corsOrigins.length > 0)
    app.use("/v1/*", cors({ origin: [...corsOrigins], exposeHeaders: ["x-request-id", AFFINITY_HEADER], maxAge: PREFLIGHT_s }));
  const guard = onlyWithKey(apiKeys, catalogue, shared.fair === true);
  for (const path of ["/v1/*", "/documents/*", "/playground/api/*", "/metrics"]) app.use(path, guard);
  app.route("/", chatRoutes(shared));
  app.route("/", completionRoutes(shared));
  app.route("/", responseRoutes(shared));
  app.route("/", modelRoutes());
  app.route("/", embeddingRoutes(shared));
  app.route("/", rerankRoutes(shared));
  app.route("/", tokenRoutes(shared));
  app.route("/", corpusRoutes(shared));
  app.route("/", documentRoutes(shared));
  app.route("/", statusRoutes(shared));
  app.route("/", playgroundRoutes(shared));

  app.notFound((c) => {
    const error = new ApiError(404, `Unknown request URL: ${c.req.method} ${c.req.path}.`, { code: "unknown_url" });
    return c.json(error.body, error.status);
  });
  app.onError((error, c) => {
    const explained = apiErrorOf(error);
    if (explained.code?.startsWith("slow_")) metrics.refuse();
    if (explained.status === CLIENT_GONE) metrics.hangUp();
    if (explained.status >= 500) c.var.log.error({ err: error }, "request failed");
    for (const [name, value] of Object.entries(explained.headers)) c.header(name, value);
    return c.json(explained.body, explained.status);
  });
  return app;
}
