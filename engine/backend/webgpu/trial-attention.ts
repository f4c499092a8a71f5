import { InferenceSession, Tensor } from "../../../runtime/index.js";
import { GraphWriter } from "../cpu/onnx.js";

/** The kernel for many tokens at once begins with 32. */
const TOKENS = 48;
const [HEADS, KV_HEADS, HEAD_SIZE] = [4, 2, 16];
const SCALE = 1 / Math.sqrt(HEAD_SIZE);

const LARGEST_ERROR = 1e-3;

/** Whether the fused attention kernel computes the same as this file does. */
export async function attendsRightly(provider: "webgpu"): Promise<boolean> {
  const session = await InferenceSession.create(attentionGraph(), { executionProviders: [provider], logSeverityLevel: 4 });
  try {
    const [q, k, v] = [HEADS, KV_HEADS, KV_HEADS].map((heads, i) =>
      Float32Array.from({ length: TOKENS * heads * HEAD_SIZE }, (_, at) => 2 * Math.sin(1 + at * (i + 1.3))),
    ) as [Float32Array, Float32Array, Float32Array];
    const rows = (values: Float32Array) => new Tensor("float32", values, [1, TOKENS, values.length / TOKENS]);
    const none = () => new Tensor("float32", new Float32Array(k.length), [1, KV_HEADS, TOKENS, HEAD_SIZE]);
    const whole = (value: number) => new Tensor("int32", Int32Array.of(value), [1]);
    const feeds = { q: rows(q), k: rows(k), v: rows(v), keys: none(), values: none(), last: whole(TOKENS - 1), total: whole(TOKENS) };
    const found = (await session.run(feeds, ["attended"]))["attended"]!.data as Float32Array;
    return attended(q, k, v).every((value, i) => Math.abs(value - found[i]!) < LARGEST_ERROR);
  } finally {
    await session.release();
  }
}

function attentionGraph(): Uint8Array {
  const graph = new GraphWriter();
  const shape = [1, KV_HEADS, TOKENS, HEAD_SIZE];
  const [q, k, v] = ["q", "k", "v"].map((name) => graph.input(name, "float32", [1, TOKENS, (name === "q" ? HEADS : KV_HEADS) * HEAD_SIZE]));
  const [keys, values] = ["keys", "values"].map((name) => graph.input(name, "float32", shape));
  const [last, total] = ["last", "total"].map((name) => graph.input(name, "int32", [1]));
  const outputs = ["attended", "keys.written", "values.written"];
  const attributes = { num_heads: HEADS, kv_num_heads: KV_HEADS, scale: SCALE };
  graph.contrib("GroupQueryAttention", [q!, k!, v!, keys!, values!, last!, total!], attributes, outputs);
  graph.output("attended", [1, TOKENS, HEADS * HEAD_SIZE]);
  for (const name of outputs.slice(1)) graph.output(name, shape);
  return graph.encodeWhole();
}

/** Causal attention, `[TOKENS, HEADS, HEAD_SIZE]`. */
function attended(q: Float32Array, k: Float32Array, v: Float32Array): Float32Array {
  const out = new Float32Array(q.length);
  for (let head = 0; head < HEADS; head++) {
    const kvHead = Math.floor((head * KV_HEADS) / HEADS);
    const row = (values: Float32Array, token: number, heads: number, of: number) =>
      values.subarray((token * heads + of) * HEAD_SIZE, (token * heads + of + 1) * HEAD_SIZE);
    for (let token = 0; token < TOKENS; token++) {
      const query = row(q, token, HEADS, head);
      const scores = Array.from({ length: token + 1 }, (_, other) =>
        Math.exp(SCALE * row(k, other, KV_HEADS, kvHead).reduce((sum, value, i) => sum + value * query[i]!, 0)),
      );
      const all = scores.reduce((a, b) => a + b);
      const own = row(out, token, HEADS, head);
      scores.forEach((score, other) => row(v, other, KV_HEADS, kvHead).forEach((value, i) => (own[i]! += (score / all) * value)));
    }
  }
  return out;
}
