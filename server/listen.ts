import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import { KvspliceError } from "../engine/index.js";
import { isLoopback } from "./access.js";
import type { Environment } from "./environment.js";
import { ApiError } from "./error.js";
import { agentLine, loadOf } from "./load.js";
import type { Shared } from "./service.js";

export type ListenOptions = {
  readonly host: string /** 0 for any free port. */;
  readonly port: number /** Port for HAProxy's agent-check, 0 for any free one; none by default. */;
  readonly agentPort?: number | undefined;
};

/** A running server. */
export type Listening = {
  readonly url: string;
  /** The port for HAProxy's agent-check, if requested. */
  readonly agentPort?: number;
  /**
   * Tells load balancers to send nothing more and accepts requests for another `notice_ms`. Then refuses new requests, and
   * resolves when the running ones have finished.
   * @param notice_ms time for load balancers to notice; 0 by default
   */
  drain(notice_ms?: number): Promise<void>;
};

/** Time for a client to send a request's headers and its whole body. Slower ones occupy a connection for nothing. */
const HEADERS_MS = 10_000;
const BODY_MS = 60_000;
const SLOW_CLIENT_CHECK_MS = 2_000;
/** A connection that is idle this much longer than the longest answer is closed: its reader is stuck. */
const IDLE_GRACE_MS = 30_000;
const MAX_CONNECTIONS = 10_000;

/** @throws KvspliceError `bad_argument` for an address that other machines can reach without a key */
export function mustBeGuarded(host: string, apiKeys: readonly unknown[]): void {
  if (isLoopback(host) || apiKeys.length > 0) return;
  throw new KvspliceError(
    "bad_argument",
    `${host} can be reached from other machines, but no API key is set. Set one in KVSPLICE_API_KEY (or --api-key), or listen on 127.0.0.1.`,
  );
}

/**
 * @throws KvspliceError `bad_argument` if the address is in use or not available, or if other machines can reach it without
 *   a key
 */
export async function listen(app: Hono<Environment>, shared: Shared, { host, port, agentPort }: ListenOptions): Promise<Listening> {
  const { apiKeys, limits } = shared;
  mustBeGuarded(host, apiKeys);
  const answer = getRequestListener(app.fetch, {
    overrideGlobalObjects: false,
    errorHandler: () =>
      Response.json(new ApiError(400, "The request's target or Host header is not valid.", { code: "invalid_request" }).body, {
        status: 400,
      }),
  });
  const server = createServer(
    { headersTimeout: HEADERS_MS, requestTimeout: BODY_MS, connectionsCheckingInterval: SLOW_CLIENT_CHECK_MS, keepAlive: true },
    (request, response) => void answer(request, response),
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.timeout = limits.request_ms + IDLE_GRACE_MS;
  server.on("clientError", refuseMalformed);
  await bound(server, host, port);
  const agent =
    agentPort === undefined
      ? undefined
      : createTcpServer((socket) => void socket.on("error", () => undefined).end(agentLine(loadOf(shared))));
  if (agent) await bound(agent, host, agentPort!);
  const { port: actual, family, address } = server.address() as AddressInfo;
  return {
    url: `http://${family === "IPv6" ? `[${address}]` : address}:${actual}`,
    ...(agent && { agentPort: (agent.address() as AddressInfo).port }),
    async drain(notice_ms = 0) {
      shared.drain();
      await sleep(notice_ms);
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      });
      agent?.close();
    },
  };
}

function bound(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(unavailable(error, host, port)));
    server.listen({ host, port }, resolve);
  });
}

function unavailable(error: NodeJS.ErrnoException, host: string, port: number): KvspliceError {
  const reasons: Record<string, string> = {
    EADDRINUSE: `Port ${port} of ${host} is in use. Choose another with --port (or --agent-port), or 0 for any free one.`,
    EACCES: `This user may not listen on port ${port}. Choose one of 1024 or above with --port.`,
    EADDRNOTAVAIL: `${host} is not an address of this machine. Choose another with --host.`,
    ENOTFOUND: `${host} is not an address of this machine. Choose another with --host.`,
  };
  return new KvspliceError("bad_argument", reasons[error.code ?? ""] ?? `Cannot listen on ${host}:${port}: ${error.message}`, {
    cause: error,
  });
}

/** Answers requests that Node's parser refuses, which never reach the routes. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: import("node:stream").Duplex): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const [status, message] =
    {
      ERR_HTTP_REQUEST_TIMEOUT: ["408 Request Timeout", "The request did not arrive in time."] as const,
      HPE_HEADER_OVERFLOW: ["431 Request Header Fields Too Large", "The request's headers are too large."] as const,
    }[error.code ?? ""] ?? (["400 Bad Request", "This is not an HTTP/1.1 request."] as const);
  const body = JSON.stringify(new ApiError(400, message, { code: "invalid_request" }).body);
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
