/** The progress of loading a model. The first load of a model builds its graphs, which takes the longest. */
export type LoadProgress = {
  /**
   * `hash` reads the model's files to identify the model; `wait` waits for another process that is building the same model;
   * `build` writes its weights in the layout that this processor multiplies in.
   */
  readonly step: "hash" | "wait" | "build";
  /** Bytes. */
  readonly done: number;
  /** Bytes; 0 if unknown. */
  readonly total: number;
  /** Estimated time for the rest of the step at its present speed; undefined at its start. */
  readonly remaining_ms: number | undefined;
};

/** Reports the progress of a step, with the time that is left. */
export function timed(
  step: LoadProgress["step"],
  onProgress: ((progress: LoadProgress) => void) | undefined,
): (done: number, total: number) => void {
  const start = performance.now();
  return (done, total) => {
    const passed = performance.now() - start;
    onProgress?.({ step, done, total, remaining_ms: done > 0 ? (passed / done) * (total - done) : undefined });
  };
}
