import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename } from "node:path";

import { serve } from "@hono/node-server";
import { Hono } from "hono";

import type { Packed } from "../../release/pack.js";

/** Source of everything that is not packed here. */
const UPSTREAM = "https://registry.npmjs.org";

type Served = { readonly manifest: { readonly name: string; readonly version: string }; readonly bytes: Buffer; readonly path: string };

/** A registry on this machine that serves the packed packages, and redirects requests for others to npm's. */
export async function startRegistry(packed: readonly Packed[]): Promise<{ url: string; close(): void }> {
  const packages = new Map<string, Served>();
  for (const { folder, tgz } of packed) {
    const manifest = JSON.parse(readFileSync(`${folder}/package.json`, "utf8")) as Served["manifest"];
    packages.set(manifest.name, { manifest, bytes: readFileSync(tgz), path: `/-/packed/${basename(tgz)}` });
  }
  const app = new Hono()
    .get("/-/packed/:file", (c) => {
      const found = [...packages.values()].find(({ path }) => path === c.req.path);
      return found === undefined ? c.notFound() : c.body(new Uint8Array(found.bytes), 200, { "content-type": "application/octet-stream" });
    })
    .get("*", (c) => {
      const found = packages.get(decodeURIComponent(c.req.path.slice(1)));
      if (found === undefined) return c.redirect(UPSTREAM + c.req.path);
      const { manifest, bytes, path } = found;
      const dist = {
        tarball: new URL(path, c.req.url).href,
        shasum: createHash("sha1").update(bytes).digest("hex"),
        integrity: `sha512-${createHash("sha512").update(bytes).digest("base64")}`,
      };
      return c.json({
        name: manifest.name,
        "dist-tags": { latest: manifest.version },
        versions: { [manifest.version]: { ...manifest, dist } },
      });
    });
  return new Promise((resolve) => {
    const server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => {
      resolve({ url: `http://127.0.0.1:${port}/`, close: () => server.close() });
    });
  });
}
