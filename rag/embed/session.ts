import { Thread } from "../../runtime/thread.js";

/** An input of an encoder, `[texts, tokens]`. */
export type TokenInput = { readonly data: BigInt64Array; readonly dims: readonly number[] };

export type EncoderOutput = { readonly data: Float32Array; readonly dims: readonly number[] };

/** Inputs and outputs of an encoder's graph. */
export type EncoderNames = { readonly inputs: readonly string[]; readonly outputs: readonly string[] };

/** Calls that an encoder's thread answers. */
export type EncoderCalls = {
  open(given: { readonly model: string; readonly threads: number | undefined }): Promise<EncoderNames>;
  run(given: { readonly inputs: Readonly<Record<string, TokenInput>>; readonly output: string }): Promise<EncoderOutput>;
  close(given: undefined): Promise<void>;
};

/** An encoder's session in a separate thread: a pass over a window blocks its thread for a tenth of a second or more. */
export class EncoderSession {
  private constructor(
    private readonly thread: Thread<EncoderCalls>,
    readonly names: EncoderNames,
  ) {}

  /** @throws Error with ONNX Runtime's message about the file */
  static async open(model: string, threads: number | undefined): Promise<EncoderSession> {
    const thread = new Thread<EncoderCalls>(new URL("./program.js", import.meta.url), `the embedder ${model}`);
    try {
      return new EncoderSession(thread, await thread.ask("open", { model, threads }));
    } catch (error) {
      await thread.close();
      throw error;
    }
  }

  run(inputs: Readonly<Record<string, TokenInput>>, output: string): Promise<EncoderOutput> {
    return this.thread.ask("run", { inputs, output });
  }

  async close(): Promise<void> {
    await this.thread.ask("close", undefined).catch(() => undefined); // a thread that has ended has freed its memory
    await this.thread.close();
  }
}
