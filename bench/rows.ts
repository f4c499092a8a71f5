/**
 * Which kernels of ONNX Runtime change a row's bits when other rows are computed with it, or when rows that it does not see
 * follow those that it does. For each it prints the numbers of rows for which some bit differs from the run of 256 rows
 * (192 for attention). Answers can be independent of concurrent requests only if no kernel does.
 *
 *     npx tsx bench/rows.ts [threads]
 */
import { valueShape } from "../engine/backend/cpu/attention.js";
import { GraphWriter } from "../engine/backend/cpu/onnx.js";
import { InferenceSession, Tensor } from "../runtime/index.js";

const threads = Number(process.argv[2] ?? 2);
const COUNTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 128, 192, 256];
const MOST_KEYS = 1664;

const random = (length: number) => Float32Array.from({ length }, () => Math.random() - 0.5);
const randomBytes = (length: number) => Uint8Array.from({ length }, () => Math.random() * 256);

async function sessionOf(write: (graph: GraphWriter) => void): Promise<InferenceSession> {
  const graph = new GraphWriter();
  write(graph);
  return InferenceSession.create(graph.encodeWhole(), { intraOpNumThreads: threads, enableMemPattern: false });
}

const same = (a: Float32Array, b: Float32Array) => a.every((value, i) => value === b[i]);

function report(name: string, equal: ReadonlyMap<number, boolean>): void {
  const differ = [...equal].filter(([, equal]) => !equal).map(([count]) => count);
  console.log(`${name.padEnd(52)} ${differ.length === 0 ? "equal" : `differs: ${differ.join(" ")}`}`);
}

/** A layer over rows of `columns` values: each number of rows against 256. */
async function byRows(name: string, columns: number, write: (graph: GraphWriter, x: string) => string, width: number): Promise<void> {
  const session = await sessionOf((graph) => {
    graph.node("Identity", [write(graph, graph.input("x", "float32", [1, "S", columns]))], {}, ["y"]);
    graph.output("y", [1, "S", width]);
  });
  const x = random(256 * columns);
  const run = async (rows: number) =>
    (await session.run({ x: new Tensor("float32", x.subarray(0, rows * columns), [1, rows, columns]) }))["y"]!.data as Float32Array;
  const all = await run(256);
  const equal = new Map<number, boolean>();
  for (const rows of COUNTS) equal.set(rows, same(await run(rows), all));
  report(name, equal);
  await session.release();
}

for (const [columns, rows] of [
  [576, 960],
  [1536, 576],
] as const) {
  for (const [bits, block, level] of [
    [4, 32, 4],
    [4, 32, 0],
    [8, 16, 4],
    [8, 32, 4],
  ] as const) {
    const blocks = columns / block;
    await byRows(
      `MatMulNBits ${columns} x ${rows}, ${bits} bits in blocks of ${block}, level ${level}`,
      columns,
      (graph, x) =>
        graph.contrib(
          "MatMulNBits",
          [
            x,
            graph.weight(randomBytes((rows * columns * bits) / 8), [rows, blocks, (block * bits) / 8]),
            graph.weight(random(rows * blocks), [rows * blocks]),
            graph.weight(randomBytes(rows * Math.ceil((blocks * bits) / 8)), [rows * Math.ceil((blocks * bits) / 8)]),
          ],
          { K: columns, N: rows, bits, block_size: block, accuracy_level: level },
        ),
      rows,
    );
  }
  await byRows(
    `MatMul ${columns} x ${rows}, float32`,
    columns,
    (graph, x) => graph.node("MatMul", [x, graph.weight(random(columns * rows), [columns, rows])]),
    rows,
  );
}
await byRows(
  "SimplifiedLayerNormalization",
  576,
  (graph, x) => graph.node("SimplifiedLayerNormalization", [x, graph.weight(random(576), [576])], { axis: -1, epsilon: 1e-5 }),
  576,
);
await byRows("QuickGelu and Mul", 1536, (graph, x) => graph.node("Mul", [graph.contrib("QuickGelu", [x], { alpha: 1 }), x]), 1536);

for (const [heads, size, seen] of [
  [3, 64, 200],
  [3, 64, 1300],
  [2, 64, 1300],
  [2, 128, 1300],
  [4, 64, 1300],
  [8, 128, 700],
  [1, 256, 700],
] as const) {
  const session = await sessionOf((graph) => {
    const [q, k] = ["q", "k"].map((name) => graph.input(name, "float32", [name === "q" ? "M" : "N", heads, size])) as [string, string];
    const v = graph.input("v", "float32", valueShape("N", { kvHeads: heads, headSize: size }));
    const scores = graph.contrib("FusedMatMul", [q, k], { alpha: 0.125, transB: 1, transBatchA: 1, transBatchB: 1 });
    const shares = graph.node("Softmax", [graph.node("Add", [scores, graph.input("mask", "float32", ["M", "N"])])], { axis: -1 });
    const attended = graph.contrib("FusedMatMul", [graph.node("Unsqueeze", [shares, graph.integers([1])]), v], {
      alpha: 1,
      transBatchB: 1,
    });
    graph.node("Transpose", [attended], { perm: [2, 0, 1, 3] }, ["y"]);
    graph.output("y", valueShape("M", { kvHeads: heads, headSize: size }));
  });
  const width = heads * size;
  const [q, k, v] = [random(192 * width), random(MOST_KEYS * width), random(MOST_KEYS * width)];
  const run = async (queries: number, keys: number) => {
    const mask = new Float32Array(queries * keys);
    for (let i = 0; i < queries; i++) mask.fill(-Infinity, i * keys + seen, (i + 1) * keys);
    const tensor = (values: Float32Array, rows: number, shape = [rows, heads, size]) =>
      new Tensor("float32", values.subarray(0, rows * width), shape);
    const cut = valueShape(keys, { kvHeads: heads, headSize: size });
    return (
      await session.run({
        q: tensor(q, queries),
        k: tensor(k, keys),
        v: tensor(v, keys, cut),
        mask: new Tensor("float32", mask, [queries, keys]),
      })
    )["y"]!.data as Float32Array;
  };
  const all = await run(192, seen);
  const byQueries = new Map<number, boolean>();
  for (const queries of COUNTS.filter((count) => count <= 192)) byQueries.set(queries, same(await run(queries, seen), all));
  report(`attention, ${heads} KV heads of ${size}, ${seen} rows: queries`, byQueries);
  const three = await run(3, seen);
  const byUnseen = new Map<number, boolean>();
  for (const unseen of [0, 1, 2, 3, 5, 8, 30, 63, 64, 256]) byUnseen.set(unseen, same(await run(3, seen + unseen), three));
  report("  3 queries, followed by rows that they do not see", byUnseen);
  await session.release();
}
