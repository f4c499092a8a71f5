import pLimit from "p-limit";
import type { KvspliceError } from "../../../plan/index.js";
import { Thread } from "../../../runtime/thread.js";
import type { KvForm } from "../../kv/form.js";
import type { LoadProgress } from "../../load-progress.js";
import { kvFormOf, type ModelSpec } from "../../model/spec.js";
import type { Backend, PassPart } from "../backend.js";
import type { CpuOptions } from "../cpu/backend.js";
import { BATCH_SLOTS, passTokens } from "../cpu/limits.js";
import { ThreadCache } from "./cache.js";
import type { ModelCalls, NumberedPart } from "./calls.js";
import { Stage } from "./stage.js";

export type ModelThread = Thread<ModelCalls>;

/** V8 reserves up to 48 MB for a thread's newest objects, and keeps them. This thread's large data is outside V8's heap. */
const YOUNG_GENERATION_MB = 4;

/** The models of one process take turns: each pass uses all cores. */
const passes = pLimit(1);

/**
 * Starts the thread of one model.
 * @param model its name in the error if the thread ends unexpectedly
 * @param onProgress called with the progress of opening
 */
export function modelThread(model: string, onProgress: ((progress: LoadProgress) => void) | undefined): ModelThread {
  const limits = { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB };
  return new Thread<ModelCalls>(new URL("./program.js", import.meta.url), `the passes of ${model}`, onProgress, limits);
}

/**
 * The processor's backend in a separate thread: a pass blocks its thread until it is over, which takes seconds for a large
 * model, and nothing else in the process has to wait for it.
 */
export class ThreadBackend implements Backend {
  readonly mostSlots = BATCH_SLOTS;
  readonly form: KvForm;
  private readonly stage = new Stage();
  private several = 1;
  private isWidened = false;
  private caches = 0;

  private constructor(
    private readonly thread: ModelThread,
    private readonly spec: ModelSpec,
    readonly encodesApart: boolean,
  ) {
    this.form = kvFormOf(spec);
  }

  /** @throws KvspliceError as `CpuBackend.open` does; the thread is unchanged */
  static async open(thread: ModelThread, options: Omit<CpuOptions, "onProgress">): Promise<ThreadBackend> {
    await thread.ask("open", options);
    return new ThreadBackend(thread, options.spec, options.calibration !== undefined);
  }

  get slots(): number {
    return this.several;
  }

  get failure(): KvspliceError | undefined {
    return this.thread.failure;
  }

  widen(): void {
    if (!this.isWidened) this.thread.tell("widen", undefined);
    this.isWidened = true;
  }

  passTokens(rows: number): number {
    return passTokens(this.spec, rows);
  }

  createCache(): ThreadCache {
    return new ThreadCache(this.caches++, this.thread, this.stage);
  }

  async run(parts: readonly PassPart[]): Promise<Float32Array[]> {
    const { logits, slots } = await passes(() => this.thread.ask("run", parts.map(numbered)));
    for (const { cache, tokens } of parts) ownCache(cache).append(tokens.length);
    this.several = slots;
    return logits;
  }

  look(part: PassPart, asks: readonly number[]): Promise<Float32Array> {
    return passes(() => this.thread.ask("look", { part: numbered(part), asks }));
  }

  async close(): Promise<void> {
    await this.thread.ask("close", undefined).catch(() => undefined); // a thread that has ended has freed its memory
    await this.thread.close();
  }
}

function numbered(part: PassPart): NumberedPart {
  return { ...part, cache: ownCache(part.cache).number };
}

function ownCache(cache: PassPart["cache"]): ThreadCache {
  if (cache instanceof ThreadCache) return cache;
  throw new Error("This cache belongs to another backend.");
}
