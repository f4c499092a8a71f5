import { readdirSync, readFileSync } from "node:fs";
import { extname } from "node:path";
import { gzipSync } from "node:zlib";
import { Hono } from "hono";
import { etag } from "hono/etag";
import type { Environment } from "../environment.js";

/** The folder of the page's files, in the sources and in the build. */
const FOLDER = new URL("page/", import.meta.url);

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** The page at `/` and its files at `/playground/NAME`, read and compressed once. */
export function pageAssets(): Hono<Environment> {
  const app = new Hono<Environment>();
  for (const name of readdirSync(FOLDER)) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const plain = readFileSync(new URL(name, FOLDER));
    const zipped = gzipSync(plain);
    const headers = { "content-type": type, "cache-control": "no-cache", vary: "accept-encoding" };
    app.get(name === "index.html" ? "/" : `/playground/${name}`, etag(), (c) =>
      /\bgzip\b/.test(c.req.header("accept-encoding") ?? "")
        ? c.body(zipped, 200, { ...headers, "content-encoding": "gzip" })
        : c.body(plain, 200, headers),
    );
  }
  return app;
}
