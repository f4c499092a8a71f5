/**
 * A server process with a model without weights. The argument is JSON: the options of `startServing` except model and embedder,
 * `pass_ms`, the time of a pass, and `notice_ms`, the time of notice before it stops. Prints one line of JSON: `{ url, agentPort }`.
 */
import { setTimeout } from "node:timers/promises";
import { fakeEmbedder } from "../rag/fakes.js";
import { wordyModel } from "./fake-serving.js";
import { type ServingOptions, startServing } from "./serving.js";

export type ServingProcessOptions = Omit<ServingOptions, "model" | "embedder"> & { readonly pass_ms?: number; readonly notice_ms?: number };

const { pass_ms = 0, notice_ms = 0, ...options } = JSON.parse(process.argv[2]!) as ServingProcessOptions;
const { model } = await wordyModel({ before: () => (pass_ms > 0 ? setTimeout(pass_ms) : undefined) });
const serving = await startServing({ model, embedder: fakeEmbedder(), ...options });
process.stdout.write(`${JSON.stringify({ url: serving.url, agentPort: serving.agentPort })}\n`);
process.once("SIGTERM", () => void serving.stop(notice_ms).then(() => process.exit(0)));
