/**
 * A response of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), each `data:` one
 * JSON value, as OpenAI streams. What is sent waits in memory for a slow reader: an answer is small, and its place in
 * the engine is not held by whoever reads it.
 *
 * @param write must not throw; it ends the stream by returning
 */
export function eventStream(write: (send: (data: object | "[DONE]") => void) => Promise<void>): Response {
  const encoder = new TextEncoder();
  let open = true;
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      const running = write((data) => {
        if (open) controller.enqueue(encoder.encode(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`));
      });
      // start() must return before the first event is read.
      void running.finally(() => {
        if (open) controller.close();
      });
    },
    cancel() {
      open = false;
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no" } });
}
