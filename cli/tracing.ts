import { KvspliceError } from "../plan/index.js";

/** The optional packages that send traces to a collector. */
export type TracingPackages = typeof import("@opentelemetry/sdk-trace-node") &
  typeof import("@opentelemetry/resources") &
  typeof import("@opentelemetry/exporter-trace-otlp-http");

/** Versions that support every Node version that kvsplice supports. */
const INSTALL =
  "npm install @opentelemetry/api@1.9 @opentelemetry/sdk-trace-node@2 @opentelemetry/resources@2 @opentelemetry/exporter-trace-otlp-http@0.223";

const loadPackages = async (): Promise<TracingPackages> => ({
  ...(await import("@opentelemetry/sdk-trace-node")),
  ...(await import("@opentelemetry/resources")),
  ...(await import("@opentelemetry/exporter-trace-otlp-http")),
});

/**
 * Sends traces to OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, respecting the other OpenTelemetry
 * variables. If neither is set, it loads nothing and does nothing.
 *
 * @returns a function that sends the last spans and shuts down
 * @throws KvspliceError `bad_argument` if the packages are not installed
 */
export async function startTracing(load: () => Promise<TracingPackages> = loadPackages): Promise<() => Promise<void>> {
  const endpoint = process.env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] || process.env["OTEL_EXPORTER_OTLP_ENDPOINT"];
  if (!endpoint) return async () => undefined;
  const packages = await load().catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new KvspliceError(
      "bad_argument",
      `OTEL_EXPORTER_OTLP_ENDPOINT requests traces, which need packages that are not installed. Unset it, or install them alongside kvsplice: ${INSTALL}`,
      { cause },
    );
  });
  const { NodeTracerProvider, BatchSpanProcessor, OTLPTraceExporter, resourceFromAttributes, detectResources, envDetector } = packages;
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": "kvsplice" }).merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  provider.register();
  return () => provider.shutdown().catch(() => undefined); // an unreachable collector is no reason to fail
}
