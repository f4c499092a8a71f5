import { KvspliceError } from "../../plan/index.js";
import { usableCores } from "../../runtime/index.js";
import { Thread } from "../../runtime/thread.js";
import type { Pooling } from "./folder.js";

/** Outputs of an encoder's graph. */
export type EncoderNames = { readonly outputs: readonly string[] };

/** A window's tokens, and how the vectors of the output `output`, `[1, tokens, dimensions]`, become one. */
export type WindowPass = { readonly ids: readonly number[]; readonly output: string; readonly pooling: Pooling };

/** Calls that an encoder's thread answers. */
export type EncoderCalls = {
  open(given: { readonly model: string }): Promise<EncoderNames>;
  /** The sum of the token vectors, or the first, `[dimensions]`. */
  pool(given: WindowPass): Promise<Float32Array>;
  close(given: undefined): Promise<void>;
};

/** Passes given to a thread at a time: it has the next one when the main thread is busy as one ends. */
const PASSES_A_THREAD = 2;

/** How a window is passed. */
export type PassOptions = { readonly signal?: AbortSignal | undefined; readonly urgent?: boolean };

type EncoderThread = Thread<EncoderCalls>;
type Waiting = { readonly take: (thread: EncoderThread) => void; readonly refuse: (error: unknown) => void };

/** Each holds a copy of the weights: some 130 MB with MiniLM. */
const MOST_THREADS = 12;

/** Opening a thread takes as long as passing some windows, so one is opened for this many waiting ones. */
const WAITING_A_THREAD = 4;

/**
 * An encoder's sessions. Each has a separate thread, which a pass blocks for some 50 ms, and computes a pass with that thread
 * alone: several small passes next to each other keep all cores busy, where one pass over all of them mostly waits. The first
 * opens with the encoder, the others as soon as windows queue up.
 */
export class EncoderSessions {
  private readonly waiting: Waiting[] = [];
  private readonly threads: EncoderThread[];
  /** Each as often as it may be given another pass. */
  private readonly idle: EncoderThread[];
  private opening: Promise<void> | undefined;
  private closed = false;

  private constructor(
    private readonly model: string,
    first: EncoderThread,
    readonly names: EncoderNames,
    private most: number,
  ) {
    this.threads = [first];
    this.idle = Array.from({ length: PASSES_A_THREAD }, () => first);
  }

  /** @throws Error with ONNX Runtime's message about the file */
  static async open(model: string, most = Math.min(usableCores(), MOST_THREADS)): Promise<EncoderSessions> {
    const { thread, names } = await openThread(model);
    return new EncoderSessions(model, thread, names, most);
  }

  /**
   * The sum of a window's token vectors, or the first, `[dimensions]`. Urgent windows go first.
   * @throws the signal's reason if it is aborted before the pass begins
   */
  async pool(pass: WindowPass, { signal, urgent = false }: PassOptions = {}): Promise<Float32Array> {
    const thread = this.idle.pop() ?? (await this.wait(urgent));
    try {
      signal?.throwIfAborted();
      return await thread.ask("pool", pass);
    } finally {
      this.free(thread);
    }
  }

  /** Refuses the windows that wait, and ends the threads after the passes in progress. */
  async close(): Promise<void> {
    this.closed = true;
    for (const { refuse } of this.waiting.splice(0)) refuse(new KvspliceError("closed", `The embedder ${this.model} was closed.`));
    await this.opening;
    for (const thread of this.threads) {
      await thread.ask("close", undefined).catch(() => undefined); // a thread that has ended has freed its memory
      await thread.close();
    }
  }

  private wait(urgent: boolean): Promise<EncoderThread> {
    return new Promise((take, refuse) => {
      if (urgent) this.waiting.unshift({ take, refuse });
      else this.waiting.push({ take, refuse });
      this.openMore();
    });
  }

  private free(thread: EncoderThread): void {
    const next = this.waiting.shift();
    if (next === undefined) this.idle.push(thread);
    else next.take(thread);
    this.openMore();
  }

  private openMore(): void {
    const { threads, waiting } = this;
    if (this.closed || this.opening || threads.length >= this.most || waiting.length < WAITING_A_THREAD * threads.length) return;
    this.opening = openThread(this.model)
      .then(
        ({ thread }) => {
          threads.push(thread);
          for (let pass = 0; pass < PASSES_A_THREAD; pass++) this.free(thread);
        },
        () => void (this.most = threads.length), // no memory is left, perhaps: the others go on
      )
      .finally(() => (this.opening = undefined));
  }
}

async function openThread(model: string): Promise<{ readonly thread: EncoderThread; readonly names: EncoderNames }> {
  const thread: EncoderThread = new Thread(new URL("./program.js", import.meta.url), `the embedder ${model}`);
  try {
    return { thread, names: await thread.ask("open", { model }) };
  } catch (error) {
    await thread.close();
    throw error;
  }
}
