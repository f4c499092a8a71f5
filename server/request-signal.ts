import { KvspliceError } from "../engine/index.js";
import { ApiError } from "./error.js";

/** Ends a request's work when its client closes the connection or its time is up. */
export type RequestSignal = {
  readonly signal: AbortSignal;
  /** The error for the client: a timeout, if the time limit caused it. */
  explain(error: unknown): unknown;
  /** Call this when the request's work has ended. */
  dispose(): void;
};

export function requestSignal(client: AbortSignal, request_ms: number): RequestSignal {
  const controller = new AbortController();
  const hangUp = () => controller.abort(client.reason);
  const over = new ApiError(504, `The answer took longer than the ${request_ms / 1000} s that this server allows. Request fewer tokens.`, {
    code: "timeout",
  });
  const timer = setTimeout(() => controller.abort(over), request_ms);
  client.addEventListener("abort", hangUp);
  if (client.aborted) hangUp();
  return {
    signal: controller.signal,
    explain: (error) => (controller.signal.reason === over && error instanceof KvspliceError && error.code === "cancelled" ? over : error),
    dispose() {
      clearTimeout(timer);
      client.removeEventListener("abort", hangUp);
    },
  };
}
