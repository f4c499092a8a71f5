import { isMainThread } from "node:worker_threads";
import { KvspliceError } from "../plan/index.js";

/**
 * ONNX Runtime 1.30 collects telemetry on Linux and macOS unless this variable is set when its library is loaded. Events are
 * queued in a database in the user's cache folder, with a persistent device id. Here it is off by default (`0` turns it on).
 * On Windows, the library reports through ETW, which the variable does not control.
 *
 * A worker thread has its own copy of the environment, which the library does not read, so only the main thread can turn
 * telemetry off.
 */
const VARIABLE = "ORT_DISABLE_TELEMETRY";

if (process.env[VARIABLE] === undefined) {
  if (!isMainThread && process.platform !== "win32") {
    throw new KvspliceError(
      "bad_argument",
      `ONNX Runtime's telemetry cannot be turned off from a worker thread. Import kvsplice in the main thread first, or start the process with ${VARIABLE}=1.`,
    );
  }
  process.env[VARIABLE] = "1";
}
