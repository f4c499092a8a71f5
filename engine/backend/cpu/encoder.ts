import { KvspliceError } from "../../../plan/index.js";
import { InferenceSession, Tensor } from "../../../runtime/index.js";
import type { ModelFile } from "../../model/files/model-file.js";
import type { ModelSpec } from "../../model/spec.js";
import type { Magnitudes } from "./decoder.js";
import { GraphWriter } from "./onnx.js";
import { type EncoderSessions, openEncoder, type SessionOptions } from "./session.js";
import { TRIAL_COLUMNS, TRIAL_INPUT, TRIAL_RESULT, writeTrial } from "./w8a8.js";

/** Encodes blocks in 8 bits; prepared when the first block is encoded. */
export class Encoder {
  private sessions: Promise<EncoderSessions> | undefined;

  /** @param measure measures the inputs of linear layers */
  constructor(
    private readonly id: string,
    private readonly file: ModelFile,
    private readonly spec: ModelSpec,
    private readonly options: SessionOptions,
    private readonly measure: () => Promise<Magnitudes>,
  ) {}

  /** @throws KvspliceError `bad_argument` if the processor cannot do it, `bad_store` if its graphs cannot be stored */
  async session({ adapted }: { readonly adapted: boolean }): Promise<InferenceSession> {
    const sessions = await (this.sessions ??= this.open());
    return adapted ? sessions.adapted() : sessions.plain();
  }

  async close(): Promise<void> {
    await (await this.sessions?.catch(() => undefined))?.close();
  }

  private async open(): Promise<EncoderSessions> {
    await mustSumExactly();
    return openEncoder(this.id, this.file, this.spec, this.options, this.measure);
  }
}

async function mustSumExactly(): Promise<void> {
  const graph = new GraphWriter();
  writeTrial(graph);
  const session = await InferenceSession.create(graph.encodeWhole(), { intraOpNumThreads: 1 });
  try {
    const { output } = await session.run({
      input: new Tensor("float32", new Float32Array(TRIAL_COLUMNS).fill(TRIAL_INPUT), [1, 1, TRIAL_COLUMNS]),
    });
    if ((output!.data as Float32Array).every((value) => value === TRIAL_RESULT)) return;
  } finally {
    await session.release();
  }
  throw new KvspliceError(
    "bad_argument",
    "This processor does not multiply bytes exactly (it has no VNNI), as encoding in 8 bits requires. Use `exact`, or another machine.",
  );
}
