import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import { KvspliceError } from "../engine/index.js";
import { isLoopback } from "./access.js";
import type { Environment } from "./environment.js";
import { ApiError } from "./error.js";
import type { Service } from "./service.js";

export type ListenOptions = { readonly host: string; /** 0 for any free one. */ readonly port: number };

/** A server that listens. */
export type Listening = {
  readonly url: string;
  /** Takes no more requests, lets those that run come to their end, and resolves. */
  drain(): Promise<void>;
};

/** A client has this long to send a request's headers, and its whole body: slower ones hold a connection for nothing. */
const HEADERS_MS = 10_000;
const BODY_MS = 60_000;
const SLOW_CLIENT_CHECK_MS = 2_000;
/** Beyond the longest answer, a connection on which nothing moves is closed: its reader is stuck. */
const IDLE_GRACE_MS = 30_000;
const MAX_CONNECTIONS = 10_000;

/** @throws KvspliceError `bad_argument` for an address that other machines can reach, where no key is asked for */
export function mustBeGuarded(host: string, apiKeys: readonly string[]): void {
  if (isLoopback(host) || apiKeys.length > 0) return;
  throw new KvspliceError("bad_argument", `${host} can be reached from other machines, and no key is asked for. Give one in KVSPLICE_API_KEY (or --api-key), or listen on 127.0.0.1.`);
}

/**
 * @throws KvspliceError `bad_argument` where the address is taken or cannot be had, or where it can be reached from
 *   other machines and no key is asked for
 */
export async function listen(app: Hono<Environment>, { apiKeys, limits }: Service, { host, port }: ListenOptions): Promise<Listening> {
  mustBeGuarded(host, apiKeys);
  const answer = getRequestListener(app.fetch, {
    overrideGlobalObjects: false,
    errorHandler: () => Response.json(new ApiError(400, "The request's target or Host header is not valid.", { code: "invalid_request" }).body, { status: 400 }),
  });
  const server = createServer(
    { headersTimeout: HEADERS_MS, requestTimeout: BODY_MS, connectionsCheckingInterval: SLOW_CLIENT_CHECK_MS, keepAlive: true },
    (request, response) => void answer(request, response),
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.timeout = limits.request_ms + IDLE_GRACE_MS;
  server.on("clientError", refuseMalformed);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(unavailable(error, host, port)));
    server.listen({ host, port }, resolve);
  });
  const { port: actual, family, address } = server.address() as AddressInfo;
  return {
    url: `http://${family === "IPv6" ? `[${address}]` : address}:${actual}`,
    drain: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      }),
  };
}

function unavailable(error: NodeJS.ErrnoException, host: string, port: number): KvspliceError {
  const reasons: Record<string, string> = {
    EADDRINUSE: `Port ${port} of ${host} is in use. Choose another with --port, or 0 for any free one.`,
    EACCES: `Port ${port} may not be listened on by this user. Choose one from 1024 with --port.`,
    EADDRNOTAVAIL: `${host} is no address of this machine. Choose another with --host.`,
    ENOTFOUND: `${host} is no address of this machine. Choose another with --host.`,
  };
  return new KvspliceError("bad_argument", reasons[error.code ?? ""] ?? `Cannot listen on ${host}:${port}: ${error.message}`, { cause: error });
}

/** What Node's parser refuses never reaches the routes. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: import("node:stream").Duplex): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const [status, message] = {
    ERR_HTTP_REQUEST_TIMEOUT: ["408 Request Timeout", "The request did not arrive in time."] as const,
    HPE_HEADER_OVERFLOW: ["431 Request Header Fields Too Large", "The request's headers are too large."] as const,
  }[error.code ?? ""] ?? (["400 Bad Request", "This is not a request of HTTP/1.1."] as const);
  const body = JSON.stringify(new ApiError(400, message, { code: "invalid_request" }).body);
  socket.end(`HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`);
}

