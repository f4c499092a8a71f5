import type { HttpBindings } from "@hono/node-server";
import type { Logger } from "pino";
import type { Client } from "../engine/index.js";
import type { OfferList } from "./catalogue.js";

/** Variables of Hono's context, set by middleware. */
export type Environment = {
  readonly Bindings: HttpBindings;
  readonly Variables: {
    log: Logger;
    bodyLimit_bytes: number;
    /** The offers that the request's key allows. */
    offers: OfferList;
    /** The token that brings the client's next turn to this server, if proxies route by affinity. */
    affinity?: string;
    /** The client whose share of the machine the request uses, if keys share it. */
    client?: Client;
    /** For a stream: the status with which it ended. */
    ended?: Promise<number>;
  };
};
