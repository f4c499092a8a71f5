import { InferenceSession, Tensor, usableCores } from "../../runtime/index.js";
import { answer, moved } from "../../runtime/thread.js";
import type { EncoderCalls } from "./session.js";

// The program of an encoder's thread.
let session: InferenceSession;

answer<EncoderCalls>({
  async open({ model, threads }) {
    session = await InferenceSession.create(model, { intraOpNumThreads: threads ?? usableCores() });
    return { inputs: session.inputNames, outputs: session.outputNames };
  },
  async run({ inputs, output }) {
    const feeds = Object.fromEntries(Object.entries(inputs).map(([name, { data, dims }]) => [name, new Tensor("int64", data, dims)]));
    const { [output]: tensor } = await session.run(feeds, [output]);
    // A copy: ONNX Runtime's own memory cannot be transferred.
    const data = Float32Array.from(tensor!.data as Float32Array);
    return moved({ data, dims: tensor!.dims }, [data.buffer]);
  },
  close: () => session.release(),
});
