import pc from "picocolors";
import { KvspliceError } from "../engine/index.js";

/** Exit code of a command ended by Ctrl-C, as shells set it: 128 + SIGINT. */
const INTERRUPTED = 130;

/** Reports an error on stderr and sets the exit code. `KVSPLICE_DEBUG=1` adds the stack trace. */
export function reportError(error: unknown): void {
  const cancelled = error instanceof KvspliceError && error.code === "cancelled";
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(cancelled ? "\nCancelled. What was stored is kept.\n" : `${pc.red("error:")} ${message}\n`);
  if (process.env["KVSPLICE_DEBUG"] && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  process.exitCode = cancelled ? INTERRUPTED : 1;
}
