/**
 * Encoding on many machines: workers take jobs from a queue in Redis.
 *
 *     const fleet = await openFleet({ url: "redis://host:6379", model, store });
 *     await corpus.precompute(["docs/"], { encoder: fleet });
 */

export { type ElsewhereOptions, openElsewhere, type QuestionQueue } from "./elsewhere.js";
export { type Fleet, type FleetActivity, type FleetOptions, openFleet } from "./fleet.js";
export { type FleetWorker, startWorker, type WorkerOptions } from "./worker.js";
