import type { Command } from "commander";
import { CommanderError } from "commander";
import { COMMANDS } from "../../../cli/commands.js";
import { reportError } from "../../../cli/report-error.js";

export type Outcome = { readonly status: number; readonly stdout: string; readonly stderr: string };

/**
 * Runs a command in this process and returns its output and exit code, for tests that are not about the process itself.
 */
export async function runCommand(command: Command, args: readonly string[], cwd: string): Promise<Outcome> {
  const written = { stdout: "", stderr: "" };
  const streams = { stdout: process.stdout, stderr: process.stderr };
  const kept = { cwd: process.cwd(), exitCode: process.exitCode, stdout: streams.stdout.write, stderr: streams.stderr.write };
  for (const name of ["stdout", "stderr"] as const) {
    streams[name].write = ((text: string | Uint8Array) => {
      written[name] += typeof text === "string" ? text : Buffer.from(text).toString();
      return true;
    }) as typeof process.stdout.write;
  }
  process.chdir(cwd);
  process.exitCode = undefined;
  throwing(command);
  try {
    await command.parseAsync(args, { from: "user" }).catch((error: unknown) => {
      if (!(error instanceof CommanderError)) reportError(error);
      else process.exitCode = error.exitCode;
    });
    return { status: Number(process.exitCode ?? 0), ...written };
  } finally {
    process.chdir(kept.cwd);
    process.exitCode = kept.exitCode;
    for (const name of ["stdout", "stderr"] as const) streams[name].write = kept[name];
  }
}

/** Runs `kvsplice` in this process and the given folder. */
export async function kvspliceIn(cwd: string, [name = "", ...args]: readonly string[]): Promise<Outcome> {
  return runCommand(await COMMANDS[name]!(), args, cwd);
}

/** Thrown instead of ending the process. */
function throwing(command: Command): void {
  command.exitOverride();
  command.commands.forEach(throwing);
}
