/** Many machines: blocks encoded by workers that take jobs from a queue in Redis. */
export { type Fleet, type FleetActivity, type FleetOptions, openFleet } from "./fleet.js";
export { type FleetWorker, startWorker, type WorkerOptions } from "./worker.js";
