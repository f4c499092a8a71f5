// Must come before a thread loads the library: a thread has a copy of the environment, which the library does not read.
import "./telemetry.js";

import { once } from "node:events";
import { parentPort, type ResourceLimits, type TransferListItem, Worker, workerData } from "node:worker_threads";
import { type ErrorCode, KvspliceError } from "../plan/index.js";

/** The functions of a thread, by name. Arguments and results are copied (structured clones). */
export type Calls = Readonly<Record<string, (given: never) => unknown>>;

type Given<C extends Calls, N extends keyof C> = Parameters<C[N]>[0];
type Returned<C extends Calls, N extends keyof C> = Awaited<ReturnType<C[N]>>;

type Question =
  | { readonly kind: "asked"; readonly id: number; readonly name: string; readonly given: unknown }
  | { readonly kind: "ended" };
type Reply =
  | { readonly kind: "returned"; readonly id: number; readonly value: unknown }
  | { readonly kind: "thrown"; readonly id: number; readonly error: unknown; readonly code: ErrorCode | undefined }
  | { readonly kind: "told"; readonly news: unknown };

type Pending = { readonly resolve: (value: never) => void; readonly reject: (error: unknown) => void };

/**
 * How long the process waits at its end for the thread to finish. Terminating a thread while it is inside ONNX Runtime crashes
 * the process (`terminate called after throwing an instance of 'Napi::Error'`).
 */
const LAST_WORK_MS = 60_000;

/**
 * A separate thread for work that blocks: ONNX Runtime's `run` only returns when the pass is done. Calls begin in the order
 * in which they were made. An idle thread does not keep the process alive.
 */
export class Thread<C extends Calls> {
  private static readonly living = new Set<Thread<never>>();
  static {
    // One listener for all of them: Node.js takes more than ten for a leak.
    process.once("exit", () => {
      for (const thread of Thread.living) thread.send({ kind: "ended" });
      for (const thread of Thread.living) Atomics.wait(thread.state, 0, 0, LAST_WORK_MS);
    });
  }

  private readonly worker: Worker;
  /** 1 after the thread has ended. */
  private readonly state = new Int32Array(new SharedArrayBuffer(4));
  private readonly pending = new Map<number, Pending>();
  private asked = 0;
  private ended: KvspliceError | undefined;

  /**
   * @param program a module that calls `answer`
   * @param work what the thread is for, used in the error that all callers get if it dies
   * @param onNews called with what the program reports
   * @param resourceLimits bounds V8's memory for the thread
   */
  constructor(program: URL, work: string, onNews?: (news: never) => void, resourceLimits: ResourceLimits = {}) {
    this.worker = startWorker(program, this.state, resourceLimits);
    this.worker.unref();
    this.worker.on("message", (answer: Reply) => {
      if (answer.kind === "told") return onNews?.(answer.news as never);
      const { resolve, reject } = this.pending.get(answer.id)!;
      this.pending.delete(answer.id);
      if (this.pending.size === 0) this.worker.unref();
      if (answer.kind === "returned") resolve(answer.value as never);
      else
        reject(
          answer.code === undefined
            ? answer.error
            : new KvspliceError(answer.code, (answer.error as Error).message, { cause: answer.error }),
        );
    });
    Thread.living.add(this);
    const fail = (how: string, cause?: unknown) =>
      this.end(new KvspliceError("closed", `The thread for ${work} ended (${how}). Start the program again.`, { cause }));
    this.worker.on("error", (error) => fail(error instanceof Error ? error.message : String(error), error));
    this.worker.on("messageerror", (error) => fail(error.message, error));
    this.worker.on("exit", (code) => {
      Thread.living.delete(this);
      fail(`exit code ${code}`);
    });
  }

  /** Why the thread died, or that it was closed. */
  get failure(): KvspliceError | undefined {
    return this.ended;
  }

  /**
   * @param moved objects transferred to the thread without a copy, which the caller can no longer use
   * @throws what the call throws; KvspliceError `closed` if the thread has ended
   */
  ask<N extends keyof C & string>(name: N, given: Given<C, N>, moved: readonly TransferListItem[] = []): Promise<Returned<C, N>> {
    return new Promise((resolve, reject) => {
      if (this.ended) return reject(this.ended);
      const id = this.asked++;
      this.send({ kind: "asked", id, name, given }, moved);
      this.pending.set(id, { resolve, reject });
      this.worker.ref();
    });
  }

  /** Makes a call that cannot fail while the thread lives, without waiting for it. */
  tell<N extends keyof C & string>(name: N, given: Given<C, N>): void {
    this.ask(name, given).catch(() => undefined); // callers that wait for a result get the error
  }

  /** Ends the thread after its pending calls. */
  async close(): Promise<void> {
    if (this.ended) return;
    const exit = once(this.worker, "exit");
    this.worker.ref();
    this.send({ kind: "ended" });
    await exit;
  }

  /** Ends the thread at once. Not for a thread inside ONNX Runtime: see `LAST_WORK_MS`. */
  async abandon(): Promise<void> {
    await this.worker.terminate();
  }

  private send(question: Question, moved: readonly TransferListItem[] = []): void {
    this.worker.postMessage(question, moved);
  }

  private end(error: KvspliceError): void {
    this.ended ??= error;
    for (const { reject } of this.pending.values()) reject(this.ended);
    this.pending.clear();
  }
}

/** If this runs from TypeScript source, so does the thread. tsx's hooks do not apply to threads (privatenumber/tsx#354). */
function startWorker(program: URL, state: Int32Array, resourceLimits: ResourceLimits): Worker {
  const options = { workerData: state, resourceLimits, execArgv: [] }; // with flags of the main program, such as --input-type, the thread would fail
  if (!import.meta.url.endsWith(".ts")) return new Worker(program, options);
  const tsx = import.meta.resolve("tsx/esm/api");
  const source = program.href.replace(/\.js$/, ".ts");
  return new Worker(`import("${tsx}").then(({ register }) => (register(), import("${source}")))`, { ...options, eval: true });
}

/** A result whose parts are transferred without a copy. */
class Moved {
  constructor(
    readonly value: unknown,
    readonly parts: readonly TransferListItem[],
  ) {}
}

/** Marks parts of a result for transfer. The thread can no longer use them. */
export function moved<T>(value: T, parts: readonly TransferListItem[]): T {
  return new Moved(value, parts) as T;
}

/** The memory of arrays, to be moved along with them. */
export function memoryOf(arrays: readonly ArrayBufferView[]): ArrayBuffer[] {
  return arrays.map(({ buffer }) => buffer as ArrayBuffer);
}

/**
 * Serves the calls of the thread's owner until it closes the thread. The thread then ends between two calls, or when a long
 * call reports something.
 * @returns a function that reports something to the owner
 */
export function answer<C extends Calls>(calls: C): (news: unknown) => void {
  const port = parentPort!;
  const state = workerData as Int32Array;
  const post = (answer: Reply, parts: readonly TransferListItem[] = []) => port.postMessage(answer, parts);
  let [working, ended] = [0, false];
  process.on("exit", () => {
    Atomics.store(state, 0, 1);
    Atomics.notify(state, 0);
  });
  port.on("message", async (question: Question) => {
    if (question.kind === "ended") ended = true;
    else {
      const { id, name, given } = question;
      working++;
      try {
        const value = await calls[name]!(given as never);
        if (value instanceof Moved) post({ kind: "returned", id, value: value.value }, value.parts);
        else post({ kind: "returned", id, value });
      } catch (error) {
        post({ kind: "thrown", id, error, code: error instanceof KvspliceError ? error.code : undefined });
      }
      working--;
    }
    if (ended && working === 0) process.exit();
  });
  return (news) => {
    if (ended) process.exit();
    post({ kind: "told", news });
  };
}
