import type { Context } from "hono";
import type { Lease, Offer } from "./catalogue.js";
import type { Environment } from "./environment.js";
import { type ApiError, apiErrorOf, CLIENT_GONE } from "./error.js";
import { type Comment, eventStream, type Send } from "./event-stream.js";
import { requestSignal } from "./request-signal.js";
import type { Service, Shared } from "./service.js";

/** Produces a response as one object or as a stream. Only one of the two is called, once. */
export type Writer = {
  whole(): Promise<object>;
  stream(send: Send): Promise<void>;
  /** Whether events are named by their `type`. */
  readonly named?: boolean;
  /** The last event of a stream that failed; an error in OpenAI's format by default. */
  failed?(error: ApiError): object;
};

export type Asked = {
  /** Places that it takes in the waiting room; 1 by default. */
  readonly answers?: number;
  readonly stream: boolean;
  /** Called when the response has ended. */
  readonly onEnd?: () => void;
};

export type Begun = {
  /** Aborts when the client closes the connection or the time is up. */
  readonly signal: AbortSignal;
  /** When the request arrived, by `performance.now()`. */
  readonly arrived: number;
  /** Leaves the waiting room. Call this when the first token is ready. */
  leave(): void;
  /** Tells a stream's client what it is waiting for. Once a stream has begun this way, an error is its last event. */
  notice(text: string): void;
};

/**
 * Answers a request that needs computing, with limits on number and time. Ends when its client closes the connection.
 *
 * @param begin errors here have their own status; later errors end a stream early
 * @throws what `begin` and `whole` throw
 */
export async function respond(
  c: Context<Environment>,
  { limits, waiting, metrics }: Shared,
  { answers = 1, stream, onEnd }: Asked,
  begin: (begun: Begun) => Promise<Writer>,
): Promise<Response> {
  const arrived = performance.now();
  const leave = waiting.enter(answers);
  const ending = requestSignal(c.req.raw.signal, limits.request_ms);
  const finish = () => {
    leave();
    ending.dispose();
    onEnd?.();
  };
  const notices = new Notices();
  try {
    const beginning = begin({ signal: ending.signal, arrived, leave, notice: (text) => notices.tell(text) });
    if (!stream) {
      const whole = await (await beginning).whole();
      finish();
      return c.json(whole);
    }
    let writer = await Promise.race([beginning, notices.begun]);
    let ended!: (status: number) => void;
    c.set("ended", new Promise((resolve) => (ended = resolve)));
    return eventStream(
      async (send, comment) => {
        let status = 200;
        try {
          notices.to(comment);
          writer = await beginning;
          await writer.stream(send);
        } catch (error) {
          const explained = apiErrorOf(ending.explain(error));
          ({ status } = explained);
          if (status === CLIENT_GONE) metrics.hangUp();
          else c.var.log.error({ err: error, status }, "an answer failed");
          send(writer?.failed?.(explained) ?? explained.body);
        } finally {
          finish();
          ended(status);
        }
      },
      () => writer?.named === true,
    );
  } catch (error) {
    finish();
    throw ending.explain(error);
  }
}

/** Notices to a stream's client before the first event. The first notice starts the stream. */
class Notices {
  private readonly told: string[] = [];
  private comment: Comment | undefined;
  private begin!: () => void;
  /** Resolves at the first notice. */
  readonly begun = new Promise<undefined>((resolve) => (this.begin = () => resolve(undefined)));

  tell(text: string): void {
    if (this.comment) this.comment(text);
    else this.told.push(text);
    this.begin();
  }

  to(comment: Comment): void {
    this.told.splice(0).forEach(comment);
    this.comment = comment;
  }
}

/** `respond`, for results that are never streamed. */
export function respondWhole(c: Context<Environment>, shared: Shared, compute: (begun: Begun) => Promise<object>): Promise<Response> {
  return respond(c, shared, { stream: false }, async (begun) => {
    const whole = await compute(begun);
    return { whole: async () => whole, stream: async (send) => send(whole) };
  });
}

/** `respond` from an offer, which stays open for the answer. */
export async function respondFrom(
  c: Context<Environment>,
  shared: Shared,
  offer: Offer,
  asked: Asked,
  begin: (begun: Begun & { readonly service: Service }) => Promise<Writer>,
): Promise<Response> {
  let lease: Lease | undefined;
  return respond(c, shared, { ...asked, onEnd: () => lease?.release() }, async (begun) => {
    lease = await shared.catalogue.lease(offer);
    const { model } = lease.service;
    shared.level?.admit({ ...model.activity, places: model.places });
    return begin({ ...begun, service: lease.service });
  });
}

/** Uses an offer's service for an immediate response. */
export async function withService<T>(shared: Shared, offer: Offer, use: (service: Service) => T | Promise<T>): Promise<T> {
  const lease = await shared.catalogue.lease(offer);
  try {
    return await use(lease.service);
  } finally {
    lease.release();
  }
}
