/** A worker process of a fleet: `URL DIR SALT`. It prints a line when it begins a block. */
import { setTimeout } from "node:timers/promises";

import { startWorker } from "../../../fleet/index.js";
import { saltedModel } from "./salted-model.js";
import { sharedStore } from "./shared-store.js";

const [url, dir, salt] = process.argv.slice(2) as [string, string, string];
const ENCODING_MS = 40;

const model = saltedModel(salt, {
  async onEncode() {
    process.stdout.write("begun\n");
    await setTimeout(ENCODING_MS);
  },
});
const worker = await startWorker({ url, model, store: sharedStore(dir), lock_ms: 1000 });
process.on("SIGINT", () => void worker.close().then(() => process.exit(0)));
