import pc from "picocolors";
import { KvspliceError } from "../engine/index.js";

/** Exit code of a command that Ctrl-C ended, as shells have it: 128 + SIGINT. */
const INTERRUPTED = 130;

/** Says what went wrong on stderr and sets the exit code. Stack traces are for `KVSPLICE_DEBUG=1`. */
export function reportError(error: unknown): void {
  const cancelled = error instanceof KvspliceError && error.code === "cancelled";
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(cancelled ? "\nCancelled. What was stored is kept.\n" : `${pc.red("error:")} ${message}\n`);
  if (process.env["KVSPLICE_DEBUG"] && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  process.exitCode = cancelled ? INTERRUPTED : 1;
}
