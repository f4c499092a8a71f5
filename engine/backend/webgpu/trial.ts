import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Computes } from "./trial-passes.js";

/** The outcome of passes on the processor or on the device; `error` says why there is none. */
export type Trial = Computes | { readonly error: string };

/** Time after which a hanging driver is abandoned. */
const PATIENCE_MS = 60_000;

/** Tries a provider in a separate process, so that a crashing driver ends nothing else. */
export function trial(provider: "cpu" | "webgpu"): Promise<Trial> {
  const source = import.meta.url.endsWith(".ts");
  const program = fileURLToPath(new URL(source ? "./trial-program.ts" : "./trial-program.js", import.meta.url));
  const loader = source ? ["--import", import.meta.resolve("tsx")] : [];
  return new Promise((resolve) => {
    execFile(process.execPath, [...loader, program, provider], { timeout: PATIENCE_MS, killSignal: "SIGKILL" }, (error, stdout) => {
      const told = /^\{.*\}$/m.exec(stdout)?.[0];
      if (told !== undefined) resolve(JSON.parse(told) as Trial);
      else if (error?.killed) resolve({ error: `it did not finish within ${PATIENCE_MS / 1000} s` });
      else resolve({ error: error?.signal ? `the driver ended the process (${error.signal})` : "the process ended without a result" });
    });
  });
}
