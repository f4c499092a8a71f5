/** How far loading a model is; the first load of a model builds its graphs, which takes the longest. */
export type LoadProgress = {
  /**
   * `hash` reads the model's files to know which model they are; `wait` is for another process that builds the same
   * model; `build` writes its weights in the layout that this processor multiplies in.
   */
  readonly step: "hash" | "wait" | "build";
  /** Bytes. */
  readonly done: number;
  /** Bytes; 0 where it is not known. */
  readonly total: number;
  /** The time that the rest of the step will take, if it goes on as before; undefined at its beginning. */
  readonly remaining_ms: number | undefined;
};

/** Tells how far a step is, with the time that is left. */
export function timed(step: LoadProgress["step"], onProgress: ((progress: LoadProgress) => void) | undefined): (done: number, total: number) => void {
  const start = performance.now();
  return (done, total) => {
    const passed = performance.now() - start;
    onProgress?.({ step, done, total, remaining_ms: done > 0 ? (passed / done) * (total - done) : undefined });
  };
}
