import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { trace } from "@opentelemetry/api";
import { afterEach, expect, test, vi } from "vitest";
import { startTracing } from "../../cli/tracing.js";

afterEach(() => {
  vi.unstubAllEnvs();
  trace.disable();
});

test("loads nothing if no endpoint is set", async () => {
  vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", "");
  const end = await startTracing(async () => {
    throw new Error("loaded");
  });
  await end();
  expect(trace.getTracer("test").startSpan("nobody takes it").isRecording()).toBe(false);
});

test("names missing packages, and how to install them", async () => {
  vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
  const missing = Object.assign(new Error("Cannot find package"), { code: "ERR_MODULE_NOT_FOUND" });
  const message = expect.stringMatching(
    /^OTEL_EXPORTER_OTLP_ENDPOINT requests traces.*npm install .*@opentelemetry\/sdk-trace-node@2 .*@opentelemetry\/exporter-trace-otlp-http@/,
  ) as string;
  await expect(startTracing(() => Promise.reject(missing))).rejects.toMatchObject({ code: "bad_argument", message });
});

test("spans reach a collector by OTLP over HTTP, with the service's name, at the latest when the server shuts down", async () => {
  const received: { path: string | undefined; body: string }[] = [];
  const collector = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    received.push({ path: request.url, body: Buffer.concat(parts).toString() });
    response.setHeader("content-type", "application/json").end("{}");
  }).listen(0, "127.0.0.1");
  await once(collector, "listening");
  vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", `http://127.0.0.1:${(collector.address() as AddressInfo).port}`);
  const end = await startTracing();
  trace.getTracer("test").startSpan("a span").end();
  await end();
  expect(received.map(({ path }) => path)).toEqual(["/v1/traces"]);
  const sent = JSON.parse(received[0]!.body) as {
    resourceSpans: { resource: { attributes: object[] }; scopeSpans: { spans: { name: string }[] }[] }[];
  };
  expect(sent.resourceSpans[0]!.resource.attributes).toContainEqual({ key: "service.name", value: { stringValue: "kvsplice" } });
  expect(sent.resourceSpans[0]!.scopeSpans[0]!.spans.map(({ name }) => name)).toEqual(["a span"]);
  collector.close();
});

test("an unreachable collector does not prevent the server from shutting down", async () => {
  vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
  vi.stubEnv("OTEL_EXPORTER_OTLP_TIMEOUT", "200");
  const end = await startTracing();
  trace.getTracer("test").startSpan("a span").end();
  await end();
});
