import { randomUUID } from "node:crypto";
import { Hono } from "hono";
import { cors } from "hono/cors";
import { routePath } from "hono/route";
import { secureHeaders } from "hono/secure-headers";
import { onlyLoopbackNames, onlyWithKey } from "./access.js";
import type { Environment } from "./environment.js";
import { ApiError, apiErrorOf, CLIENT_GONE } from "./error.js";
import { playgroundRoutes } from "./playground/index.js";
import { chatRoutes } from "./routes/chat.js";
import { meantPath } from "./paths.js";
import { embeddingRoutes } from "./routes/embeddings.js";
import { modelRoutes } from "./routes/models.js";
import { statusRoutes } from "./routes/status.js";
import type { Service } from "./service.js";

/** A browser asks again after an hour. */
const PREFLIGHT_s = 3_600;

/** Every route of the server. What it answers from is the caller's to open and close. */
export function createApp(service: Service): Hono<Environment> {
  const { apiKeys, corsOrigins, limits, log, metrics } = service;
  const app = new Hono<Environment>({ getPath: ({ url }) => meantPath(new URL(url).pathname) });
  app.use(async (c, next) => {
    const id = `req_${randomUUID()}`;
    const start = performance.now();
    c.set("log", log.child({ request: id }));
    c.set("bodyLimit_bytes", limits.body_bytes);
    c.header("x-request-id", id);
    await next();
    metrics.request(routePath(c, -1), c.res.status);
    c.var.log.info({ method: c.req.method, path: c.req.path, status: c.res.status, ms: Math.round(performance.now() - start) }, "request");
  });
  app.use(
    secureHeaders({
      // The server speaks plain HTTP; whoever stands before it with TLS says so itself.
      strictTransportSecurity: false,
      xFrameOptions: "DENY",
      // The playground's files and routes, and nothing from elsewhere, nothing inline, no text made into markup.
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
  if (apiKeys.length === 0) app.use(onlyLoopbackNames());
  // Before keys are asked for: a browser asks whether it may send one without sending it.
  if (corsOrigins.length > 0) app.use("/v1/*", cors({ origin: [...corsOrigins], exposeHeaders: ["x-request-id"], maxAge: PREFLIGHT_s }));
  for (const path of ["/v1/*", "/playground/api/*", "/metrics"]) app.use(path, onlyWithKey(apiKeys));
  app.route("/", chatRoutes(service));
  app.route("/", modelRoutes(service));
  app.route("/", embeddingRoutes(service));
  app.route("/", statusRoutes(service));
  app.route("/", playgroundRoutes(service));

  app.notFound((c) => {
    const error = new ApiError(404, `Unknown request URL: ${c.req.method} ${c.req.path}.`, { code: "unknown_url" });
    return c.json(error.body, error.status);
  });
  app.onError((error, c) => {
    const explained = apiErrorOf(error);
    if (explained.status === CLIENT_GONE) metrics.hangUp();
    if (explained.status >= 500) c.var.log.error({ err: error }, "request failed");
    for (const [name, value] of Object.entries(explained.headers)) c.header(name, value);
    return c.json(explained.body, explained.status);
  });
  return app;
}
