import { context, propagation, type Span, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import type { MiddlewareHandler } from "hono";
import { routePath } from "hono/route";
import type { GenerationStats, Phase, TierName } from "../engine/index.js";
import type { Environment } from "./environment.js";

/** Spans go to the OpenTelemetry SDK. Without one, the calls do nothing. */
const tracer = trace.getTracer("kvsplice");

/** Records a span for each request, in the trace named by its `traceparent` (https://www.w3.org/TR/trace-context/). */
export function withTrace(): MiddlewareHandler<Environment> {
  return async (c, next) => {
    const route = routePath(c, -1);
    const parent = propagation.extract(context.active(), c.req.header());
    const span = tracer.startSpan(
      `${c.req.method} ${route}`,
      { kind: SpanKind.SERVER, attributes: { "http.request.method": c.req.method, "http.route": route } },
      parent,
    );
    await context.with(trace.setSpan(parent, span), next);
    const end = (status: number) => {
      span.setAttribute("http.response.status_code", status);
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
    };
    // A stream ends later than its response begins.
    if (c.var.ended) void c.var.ended.then(end);
    else end(c.res.status);
  };
}

/** Does work in its own span, with attributes from its result. */
export async function spanned<T>(
  name: string,
  work: () => Promise<T>,
  attributes: (result: T) => Readonly<Record<string, number>>,
): Promise<T> {
  const span = tracer.startSpan(name);
  try {
    const result = await work();
    span.setAttributes(attributes(result));
    return result;
  } catch (error) {
    fail(span, error);
    throw error;
  } finally {
    span.end();
  }
}

/** The span of an answer, and within it those of its phases, one after another. Calls after its end have no effect. */
export class AnswerTrace {
  private readonly began = { at_ms: Date.now(), by_ms: performance.now() };
  private readonly span = tracer.startSpan("answer", { startTime: this.began.at_ms });
  private phase: { readonly name: Phase; readonly span: Span } | undefined;
  private readonly reads = new Map<TierName | "none", number>();

  /** Does work in the answer's span, so that spans of others' work for it belong to it. */
  within<T>(work: () => T): T {
    return context.with(trace.setSpan(context.active(), this.span), work);
  }

  /** Begins the next phase. */
  readonly begin = (name: Phase): void => {
    const now = this.now();
    this.endPhase(now);
    this.phase = { name, span: tracer.startSpan(name, { startTime: now }, trace.setSpan(context.active(), this.span)) };
  };

  /** Counts a block read from a tier, or missing in all of them, for the span `fetch`. */
  readonly read = (tier: TierName | undefined): void => {
    const from = tier ?? "none";
    this.reads.set(from, (this.reads.get(from) ?? 0) + 1);
  };

  ended({
    cached_tokens,
    encoded_tokens,
    elsewhere_tokens,
    computed_tokens,
    recomputed_tokens,
    generated_tokens,
    finish,
  }: GenerationStats): void {
    const now = this.now();
    this.endPhase(now);
    this.span.setAttributes(
      named({ cached_tokens, encoded_tokens, elsewhere_tokens, computed_tokens, recomputed_tokens, generated_tokens, finish }),
    );
    this.span.end(now);
  }

  failed(error: unknown): void {
    if (!this.span.isRecording()) return;
    if (this.phase) fail(this.phase.span, error);
    const now = this.now();
    this.endPhase(now);
    fail(this.span, error);
    this.span.end(now);
  }

  /** Unix time in milliseconds, with fractions for short phases. */
  private now(): number {
    return this.began.at_ms + performance.now() - this.began.by_ms;
  }

  private endPhase(now: number): void {
    if (this.phase?.name === "fetch")
      this.phase.span.setAttributes(named(Object.fromEntries(Array.from(this.reads, ([tier, count]) => [`blocks.${tier}`, count]))));
    this.phase?.span.end(now);
    this.phase = undefined;
  }
}

function named<T>(attributes: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`kvsplice.${name}`, value]));
}

function fail(span: Span, error: unknown): void {
  span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
}
