/** An OpenAI-compatible HTTP API for engine, rag and pml. */

export { type ApiKey, parseApiKeys } from "./api-key.js";
export { createApp } from "./app.js";
export type { Offer } from "./catalogue.js";
export { type Listening, type ListenOptions, listen, mustBeGuarded } from "./listen.js";
export { createServer, type Limits, type Opened, type ServerOptions, type Service, type Shared } from "./service.js";
export type { Goals } from "./service-level.js";
export { Uploads } from "./uploads.js";
