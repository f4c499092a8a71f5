import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** What a test can configure in the server, and what the server records about requests. */
export type Hub = {
  readonly url: string;
  readonly requests: {
    readonly method: string;
    readonly url: string;
    readonly range: string | undefined;
    readonly authorization: string | undefined;
  }[];
  /** Files by `OWNER/NAME` and path. */
  readonly repos: Record<string, Record<string, Buffer>>;
  /** Bytes of a file's body after which the connection breaks, and the number of responses that this affects. */
  breaks: { after: number; times: number };
  /** Whether range requests get the whole file, as with some proxies. */
  ignoresRanges: boolean;
  /** Sent in place of a file's content. */
  content: ((path: string) => Buffer) | undefined;
  /** The required token, if any. */
  token: string | undefined;
  /** Time between pieces of 64 KB. */
  pause_ms: number;
  close(): Promise<void>;
};

/**
 * A server with the part of the hub's API that fetching a model needs: a revision's commit, the list of its files (in pages of
 * two), and the files themselves, large ones by a redirect to another host.
 */
export async function startHub(repos: Hub["repos"]): Promise<Hub> {
  const files = createServer((request, response) => void sendFile(hub, request, response));
  const api = createServer((request, response) => answer(hub, filesUrl, request, response));
  const filesUrl = await listening(files, "localhost");
  const hub: Hub = {
    url: await listening(api, "127.0.0.1"),
    requests: [],
    repos,
    breaks: { after: 0, times: 0 },
    ignoresRanges: false,
    content: undefined,
    token: undefined,
    pause_ms: 0,
    async close() {
      for (const server of [api, files]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
  return hub;
}

/** Whether the hub stores a file elsewhere (LFS) instead of in Git. */
export function isLarge(content: Buffer): boolean {
  return content.length > 1_000;
}

export function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

function gitHash(content: Buffer): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

async function listening(server: Server, host: string): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return `http://${host}:${(server.address() as AddressInfo).port}`;
}

function note(hub: Hub, { method = "", url = "", headers }: IncomingMessage): void {
  hub.requests.push({ method, url, range: headers.range, authorization: headers.authorization });
}

function answer(hub: Hub, filesUrl: string, request: IncomingMessage, response: ServerResponse): void {
  note(hub, request);
  const json = (status: number, body: unknown, headers: Record<string, string> = {}) => {
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  };
  const { pathname, searchParams } = new URL(request.url!, hub.url);
  const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(pathname);
  const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname);
  const repo = (api ?? file)?.[1];
  if (hub.token !== undefined && request.headers.authorization !== `Bearer ${hub.token}`)
    return json(401, { error: "Invalid username or password." });
  const content = repo === undefined ? undefined : hub.repos[repo];
  if (!content) return json(404, { error: "Repository not found" });
  if (api?.[2] === "revision") {
    if (!["main", "v1", COMMIT].includes(api[3]!)) return json(404, { error: "Invalid rev id" });
    return json(200, { _id: "1", id: repo, sha: COMMIT, lastModified: "2026-01-01T00:00:00Z" });
  }
  if (api) {
    const paths = Object.keys(content);
    const from = Number(searchParams.get("cursor") ?? 0);
    const page = paths.slice(from, from + 2).map((path) => {
      const bytes = content[path]!;
      const entry = { type: "file", path, size: bytes.length, oid: gitHash(bytes) };
      return isLarge(bytes) ? { ...entry, lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } } : entry;
    });
    const next = `${hub.url}${pathname}?recursive=true&cursor=${from + 2}`;
    return json(200, page, from + 2 < paths.length ? { link: `<${next}>; rel="next"` } : {});
  }
  const path = decodeURIComponent(file![3]!);
  if (!content[path]) return json(404, { error: "Entry not found" }, { "x-error-code": "EntryNotFound" });
  if (isLarge(content[path])) return void response.writeHead(302, { location: `${filesUrl}/${repo}/${file![3]}` }).end();
  void send(hub, path, content[path], request, response);
}

async function sendFile(hub: Hub, request: IncomingMessage, response: ServerResponse): Promise<void> {
  note(hub, request);
  const [owner, name, ...path] = decodeURIComponent(new URL(request.url!, hub.url).pathname.slice(1)).split("/");
  const content = hub.repos[`${owner}/${name}`]?.[path.join("/")];
  if (!content) return void response.writeHead(404).end();
  await send(hub, path.join("/"), content, request, response);
}

async function send(hub: Hub, path: string, content: Buffer, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const bytes = hub.content?.(path) ?? content;
  const from = hub.ignoresRanges ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  if (from > 0 && from >= bytes.length) return void response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
  const headers = { "content-length": bytes.length - from, etag: `"${sha256(bytes)}"` };
  if (from > 0) response.writeHead(206, { ...headers, "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
  else response.writeHead(200, headers);
  if (request.method === "HEAD") return void response.end();
  const breaks = hub.breaks.times > 0 && isLarge(bytes) && hub.breaks.times-- > 0;
  const end = breaks ? from + hub.breaks.after : bytes.length;
  for (let at = from; at < end; at += 65_536) {
    response.write(bytes.subarray(at, Math.min(at + 65_536, end)));
    if (hub.pause_ms > 0) await new Promise((resolve) => setTimeout(resolve, hub.pause_ms));
  }
  if (breaks) setTimeout(() => response.destroy(), 20);
  else response.end();
}
