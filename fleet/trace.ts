import { context, propagation, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { z } from "zod";

const tracer = trace.getTracer("kvsplice");

/** A span's name in a job, for the worker (https://www.w3.org/TR/trace-context/). */
export const TraceContext = z.object({ traceparent: z.string(), tracestate: z.string().optional() });
export type TraceContext = z.infer<typeof TraceContext>;

/** The active span; undefined if traces are not recorded. */
export function activeTrace(): TraceContext | undefined {
  const carrier: Record<string, string> = {};
  propagation.inject(context.active(), carrier);
  return TraceContext.safeParse(carrier).data;
}

/** Encodes a block in a span of the requesting trace; without a span if there is no trace. */
export async function tracedEncode<T>(of: TraceContext | undefined, tokens: number, encode: () => Promise<T>): Promise<T> {
  if (of === undefined) return encode();
  const parent = propagation.extract(context.active(), of);
  const span = tracer.startSpan("encode", { kind: SpanKind.CONSUMER, attributes: { "kvsplice.tokens": tokens } }, parent);
  try {
    return await context.with(trace.setSpan(parent, span), encode);
  } catch (error) {
    span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
    throw error;
  } finally {
    span.end();
  }
}
