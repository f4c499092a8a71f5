import { InferenceSession, Tensor } from "../../runtime/index.js";
import { answer, moved } from "../../runtime/thread.js";
import type { EncoderCalls } from "./session.js";

// The program of an encoder's thread.
let session: InferenceSession;

answer<EncoderCalls>({
  async open({ model }) {
    session = await InferenceSession.create(model, { intraOpNumThreads: 1 });
    return { outputs: session.outputNames };
  },
  async pool({ ids, output, pooling }) {
    const dims = [1, ids.length];
    const inputs = {
      input_ids: BigInt64Array.from(ids, BigInt),
      attention_mask: new BigInt64Array(ids.length).fill(1n),
      token_type_ids: new BigInt64Array(ids.length),
    };
    const known = Object.entries(inputs).filter(([name]) => session.inputNames.includes(name));
    const feeds = Object.fromEntries(known.map(([name, data]) => [name, new Tensor("int64", data, dims)]));
    const tensor = (await session.run(feeds, [output]))[output]!;
    if (tensor.dims.length !== 3) throw new Error(`its output ${output} has the shape ${tensor.dims.join(" x ")}`);
    const [tokens, dimensions] = [pooling === "first" ? 1 : ids.length, tensor.dims[2]!];
    const vectors = tensor.data as Float32Array;
    const sum = new Float32Array(dimensions);
    for (let token = 0; token < tokens; token++) for (let i = 0; i < dimensions; i++) sum[i]! += vectors[token * dimensions + i]!;
    return moved(sum, [sum.buffer]);
  },
  close: () => session.release(),
});
