/** Sends an event. */
export type Send = (data: object | "[DONE]") => void;

/** Sends a comment, which readers of events ignore. */
export type Comment = (text: string) => void;

/**
 * A response of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), each with one JSON
 * value in `data:`, as in OpenAI's streams. Events for a slow reader wait in memory: an answer is small, and a slow reader
 * must not occupy a place in the engine.
 *
 * @param write must not throw; the stream ends when it returns
 * @param named whether events are named by their `type`, as in OpenAI's Responses API
 */
export function eventStream(write: (send: Send, comment: Comment) => Promise<void>, named: () => boolean): Response {
  const encoder = new TextEncoder();
  let open = true;
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      const put = (text: string) => {
        if (open) controller.enqueue(encoder.encode(text));
      };
      const running = write(
        (data) => put(eventOf(data, named())),
        (text) => put(`: ${text}\n\n`),
      );
      // start() must return before the first event is read.
      void running.finally(() => {
        if (open) controller.close();
      });
    },
    cancel() {
      open = false;
    },
  });
  return new Response(body, {
    headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no" },
  });
}

function eventOf(data: object | "[DONE]", named: boolean): string {
  if (typeof data === "string") return `data: ${data}\n\n`;
  const name = named && "type" in data ? `event: ${String(data.type)}\n` : "";
  return `${name}data: ${JSON.stringify(data)}\n\n`;
}
