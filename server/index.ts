/** HTTP over the calls of engine, rag and pml, in the words of OpenAI's API. */
export { createApp } from "./app.js";
export { type Listening, listen, type ListenOptions, mustBeGuarded } from "./listen.js";
export { createService, type Limits, type Service } from "./service.js";
