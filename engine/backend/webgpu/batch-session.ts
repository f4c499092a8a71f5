import type { InferenceSession, Tensor } from "../../../runtime/index.js";
import { type Room, roomWithin } from "./memory.js";
import { type DeviceGraphOptions, deviceGraphs } from "./session.js";

export type BatchSessionOptions = DeviceGraphOptions & {
  /** Bytes of the device's memory that may be used; no limit if omitted. */
  readonly memory?: number | undefined;
  /** Whether some of it is left for answers. */
  readonly answers?: boolean | undefined;
};

/** What the graph reads and returns, by name. */
export type BatchGraph = { readonly inputs: readonly string[]; readonly outputs: readonly string[] };

/** What one pass over blocks reads, each block padded to the same length, and which results it returns. */
export type BatchPass = { readonly feeds: Readonly<Record<string, Tensor>>; readonly wanted: readonly string[] };

/** What the device returned for a batch: K and V of all rows, or what it packed. */
export type BatchResults = Readonly<Record<string, Float32Array | Int32Array>>;

/** The device's part of encoding, in the current thread: the pass. */
export class BatchSession {
  private constructor(
    private readonly session: InferenceSession,
    readonly room: Room,
  ) {}

  /**
   * @throws as `deviceGraphs` does, KvspliceError `bad_argument` if the model is larger than the memory, and ONNX Runtime's error if
   *   there is no device
   */
  static async open(options: BatchSessionOptions): Promise<BatchSession> {
    const graphs = await deviceGraphs(options);
    const room = roomWithin(options, graphs.weightsBytes);
    return new BatchSession(await graphs.open("blocks.onnx"), room);
  }

  get graph(): BatchGraph {
    const { inputNames, outputNames } = this.session;
    return { inputs: inputNames, outputs: outputNames };
  }

  /** Blocks the thread until the device is done. */
  async run({ feeds, wanted }: BatchPass): Promise<BatchResults> {
    const results = await this.session.run(feeds, wanted);
    return Object.fromEntries(wanted.map((name) => [name, results[name]!.data as Float32Array | Int32Array]));
  }

  async close(): Promise<void> {
    await this.session.release();
  }
}
