/**
 * Runs one command with a signal that Ctrl-C aborts. A second Ctrl-C ends the process as if the signal were not handled:
 * `process.exit` would wait for the pass that a model's thread is running.
 */
export async function withInterrupt<T>(use: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interrupt = new AbortController();
  const onInterrupt = (name: NodeJS.Signals) => {
    if (!interrupt.signal.aborted) return interrupt.abort();
    process.removeAllListeners(name);
    process.kill(process.pid, name);
  };
  process.on("SIGINT", onInterrupt);
  process.on("SIGTERM", onInterrupt);
  try {
    return await use(interrupt.signal);
  } finally {
    process.off("SIGINT", onInterrupt);
    process.off("SIGTERM", onInterrupt);
  }
}
