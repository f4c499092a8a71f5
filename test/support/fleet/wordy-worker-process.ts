/** A worker process with the model without weights from the server tests: `URL PREFIX`. */
import { openBlockStore } from "../../../engine/index.js";
import { startWorker } from "../../../fleet/index.js";
import { wordyModel } from "../server/fake-serving.js";

const [url, prefix] = process.argv.slice(2) as [string, string];
const { model } = await wordyModel();
await startWorker({ url, model, store: openBlockStore({ redis: { url, prefix } }), lock_ms: 2000 });
process.stdout.write("ready\n");
