import { setTimeout as sleep } from "node:timers/promises";
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { type Model, openBlockStore } from "../../engine/index.js";
import { openFleet, startWorker } from "../../fleet/index.js";
import { saltedModel } from "../support/fleet/salted-model.js";
import { sharedStore } from "../support/fleet/shared-store.js";
import { fakeEmbedder } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";
import { hasRedis, startRedis } from "../support/redis-server.js";
import { wordyModel } from "../support/server/fake-serving.js";
import { remove, startServing } from "../support/server/serving.js";

/** A client's own trace (https://www.w3.org/TR/trace-context/). */
const TRACE = "0af7651916cd43dd8448eb211c80319c";
/** The server's pass takes longer than its worker's, so it leaves documents to the worker. */
const PASS_MS = 60;

const exporter = new InMemorySpanExporter();
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
provider.register();
afterAll(() => provider.shutdown());

const named = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name);

describe.skipIf(!hasRedis)("a worker's encoding (skipped if redis-server is not installed)", () => {
  test("is a span in the trace of the waiting question, within its answer, with its tokens", async () => {
    const redis = await startRedis();
    const { model } = await wordyModel({ before: () => sleep(PASS_MS) });
    const serving = await startServing({ model, embedder: fakeEmbedder(), redis: redis.url, encodeQueue: redis.url });
    const { model: theirs } = await wordyModel();
    const store = openBlockStore({ redis: { url: redis.url, prefix: "kvsplice:" } });
    const worker = await startWorker({ url: redis.url, model: theirs, store });
    onTestFinished(async () => {
      await worker.close();
      await store.close();
      await serving.stop();
      remove(serving.folder);
      await redis.stop();
    });
    await expect.poll(async () => (await fetch(`${serving.url}/metrics`)).text()).toMatch(/^kvsplice_queue_workers 1$/m);
    exporter.reset();

    const text = Array.from({ length: 60 }, (_, word) => `The keeper says word ${word}.`).join(" ");
    const documents = Array.from({ length: 4 }, (_, i) => ({ title: `Diary ${i}`, text: `Of year ${i}. ${text}` }));
    const response = await fetch(`${serving.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", traceparent: `00-${TRACE}-b7ad6b7169203331-01` },
      body: JSON.stringify({ documents, messages: [{ role: "user", content: "What is said?" }], max_tokens: 2 }),
    });
    const { kvsplice } = (await response.json()) as { readonly kvsplice: { readonly elsewhere_tokens: number } };
    expect(kvsplice.elsewhere_tokens).toBeGreaterThan(0);

    const [answer] = named("answer");
    const encodings = named("encode");
    expect(new Set(encodings.map((span) => span.spanContext().traceId))).toEqual(new Set([TRACE]));
    expect(new Set(encodings.map(({ parentSpanContext }) => parentSpanContext?.spanId))).toEqual(new Set([answer!.spanContext().spanId]));
    const tokens = encodings.reduce((sum, { attributes }) => sum + Number(attributes["kvsplice.tokens"]), 0);
    expect(tokens).toBeGreaterThanOrEqual(kvsplice.elsewhere_tokens);
  });

  test("for a precompute without a trace is not a span", async () => {
    const redis = await startRedis();
    const store = sharedStore(await temporaryFolder());
    const model: Model = saltedModel("untraced");
    const worker = await startWorker({ url: redis.url, model, store });
    const fleet = await openFleet({ url: redis.url, model, store });
    onTestFinished(async () => {
      await fleet.close();
      await worker.close();
      await store.close();
      await redis.stop();
    });
    exporter.reset();
    expect(await fleet.encodeMissing(model.keyOf({ tokens: [1] }), { tokens: [1] })).toBe(true);
    expect(exporter.getFinishedSpans()).toEqual([]);
  });
});
