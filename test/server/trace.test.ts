import { SpanStatusCode } from "@opentelemetry/api";
import { InMemorySpanExporter, NodeTracerProvider, type ReadableSpan, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { KvspliceError } from "../../plan/index.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { ARTICLES, remove } from "../support/server/serving.js";

/** A client's own span (https://www.w3.org/TR/trace-context/). */
const CLIENT = { trace: "0af7651916cd43dd8448eb211c80319c", span: "b7ad6b7169203331" };
const TRACEPARENT = `00-${CLIENT.trace}-${CLIENT.span}-01`;

const exporter = new InMemorySpanExporter();
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
provider.register();

let serving: Awaited<ReturnType<typeof startFakeServing>>;
let failure: KvspliceError | undefined;
beforeAll(async () => {
  serving = await startFakeServing({ memory: 0, before: () => (failure ? Promise.reject(failure) : undefined) });
});
afterAll(async () => {
  await serving.stop();
  await provider.shutdown();
  remove(serving.folder);
});
beforeEach(() => exporter.reset());

const ask = (body: object, options: RequestInit = {}) =>
  fetch(`${serving.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", traceparent: TRACEPARENT },
    body: JSON.stringify({ messages: [{ role: "user", content: "Who kept the lighthouse?" }], max_tokens: 4, ...body }),
    ...options,
  });

const start = ({ startTime: [s, ns] }: ReadableSpan) => s * 1e3 + ns / 1e6;
const end = ({ endTime: [s, ns] }: ReadableSpan) => s * 1e3 + ns / 1e6;
const spans = () => exporter.getFinishedSpans().toSorted((a, b) => start(a) - start(b));
const named = (name: string) => spans().filter((span) => span.name === name);
const request = async () => {
  await expect.poll(() => named("POST /v1/chat/completions")).toHaveLength(1);
  return named("POST /v1/chat/completions")[0]!;
};
const within = (parent: ReadableSpan) =>
  spans().filter(({ parentSpanContext }) => parentSpanContext?.spanId === parent.spanContext().spanId);

test("an answer over documents is a span of the client's trace, and its steps are spans within it", async () => {
  const { usage } = (await (await ask({ corpus: "articles", link: "0.5" })).json()) as {
    usage: { prompt_tokens: number; completion_tokens: number };
  };
  const root = await request();
  expect(root.parentSpanContext).toMatchObject({ traceId: CLIENT.trace, spanId: CLIENT.span });
  expect(root.attributes).toMatchObject({
    "http.request.method": "POST",
    "http.route": "/v1/chat/completions",
    "http.response.status_code": 200,
  });
  expect(within(root).map(({ name }) => name)).toEqual(["retrieve", "answer"]);
  const [retrieve, answer] = within(root) as [ReadableSpan, ReadableSpan];
  expect(within(answer).map(({ name }) => name)).toEqual(["queue", "fetch", "recompute", "splice", "prefill", "decode"]);
  expect(new Set(spans().map((span) => span.spanContext().traceId))).toEqual(new Set([CLIENT.trace]));

  const chunks = Object.keys(ARTICLES).length;
  expect(retrieve.attributes).toEqual({ "kvsplice.chunks": chunks });
  // The card's opening block is read along with the chunks', all from disk: this server keeps nothing in memory.
  expect(named("fetch")[0]!.attributes).toMatchObject({ "kvsplice.blocks.disk": expect.any(Number) as number });
  expect(named("fetch")[0]!.attributes["kvsplice.blocks.disk"]).toBeGreaterThanOrEqual(chunks);
  expect(answer.attributes).toMatchObject({ "kvsplice.generated_tokens": usage.completion_tokens, "kvsplice.finish": "length" });
  const tokens = ["cached", "encoded", "computed"].map((kind) => Number(answer.attributes[`kvsplice.${kind}_tokens`]));
  expect(tokens.reduce((sum, each) => sum + each)).toBe(usage.prompt_tokens);
  expect(answer.attributes["kvsplice.recomputed_tokens"]).toBeGreaterThan(0);
});

test("phases follow each other without gaps", async () => {
  await ask({ corpus: "articles" });
  const [answer] = within(await request()).filter(({ name }) => name === "answer");
  const phases = within(answer!);
  expect(phases.map(({ name }) => name)).toEqual(["queue", "fetch", "splice", "prefill", "decode"]);
  for (const [i, phase] of phases.slice(1).entries()) expect(phase.startTime).toEqual(phases[i]!.endTime);
  expect(start(answer!)).toBeLessThanOrEqual(start(phases[0]!));
  expect(answer!.endTime).toEqual(phases.at(-1)!.endTime);
});

test("a chat without documents retrieves nothing, and each of several answers has its own span", async () => {
  await ask({ n: 2 });
  expect(within(await request()).map(({ name }) => name)).toEqual(["answer", "answer"]);
});

test("a stream's span ends with the stream", async () => {
  await (await ask({ stream: true })).text();
  const root = await request();
  expect(end(root)).toBeGreaterThanOrEqual(end(named("decode")[0]!));
  expect(root.attributes["http.response.status_code"]).toBe(200);
});

test("a failed answer is an error in its current phase", async () => {
  failure = new KvspliceError("closed", "The thread ended.");
  await ask({});
  failure = undefined;
  expect((await request()).status.code).toBe(SpanStatusCode.ERROR);
  for (const name of ["prefill", "answer"])
    expect(named(name)[0]!.status).toEqual({ code: SpanStatusCode.ERROR, message: "The thread ended." });
  expect(named("splice")[0]!.status.code).toBe(SpanStatusCode.UNSET);
  expect(named("decode")).toEqual([]);
});

test("without a client's trace, a request begins its own, but requests for the server's state begin none", async () => {
  await ask({}, { headers: { "content-type": "application/json" } });
  expect((await request()).parentSpanContext).toBeUndefined();
  exporter.reset();
  for (const path of ["/healthz", "/metrics", "/internal/load"]) await fetch(`${serving.url}${path}`);
  expect(spans()).toEqual([]);
});
