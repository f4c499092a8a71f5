import { closeSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { devNull } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "../../../runtime/index.js";
import {
  bytesOfWeight,
  EncodedModel,
  encodeNode,
  NODE_INPUT,
  NODE_OUTPUT,
  type NodeWeight,
  type OnnxNode,
  type PackedPlace,
  type WeightInfo,
  type WeightPlace,
  type WeightValues,
} from "./onnx.js";
import { WeightsFile } from "./weights-file.js";

/** Operators whose second input ONNX Runtime packs into the layout that this processor's kernels multiply in. */
const PACKING = new Set(["MatMulNBits", "MatMul"]);

/** Newly made weights, those of one node together, with the matrix first. */
export type MadeWeight = { readonly info: WeightInfo; readonly values: WeightValues };

/**
 * The weights of a node that its packed form replaces. ONNX Runtime no longer reads a matrix that it has
 * packed, nor scales packed with it. Yet a session needs their bytes, packs them, and looks for a saved
 * packed form by the hash of the result. So that no matrix is stored twice, it gets the packed form in their place:
 * that is packed once more when the file is built, and the result provides the hash. Matrices of one shape share the
 * stand-in for their scales, because a session keeps what it was given for them: it maps that once.
 */
type StandIn = "matrix and scales" | "matrix" | "nothing";

/** A node with packed weights, and what it computes from `proofInputs`: elsewhere it must compute the same. */
export type Proof = {
  readonly node: OnnxNode;
  readonly columns: number;
  readonly weights: readonly NodeWeight[];
  readonly results: readonly Float32Array[];
};

/**
 * Writes weights into a file in the layout that this processor's kernels multiply in. Sessions map them from there, so
 * that all processes share one copy. Whether a kernel computes bit for bit the same with a stand-in is tried
 * for each shape of matrix; if it does not, the matrix is written as it is, and each session packs it in memory.
 */
export class WeightsPacker {
  private readonly standIns = new Map<string, StandIn>();
  /** Where the stand-in for scales is, by shape. */
  private readonly scales = new Map<string, number>();
  private readonly smallest = new Map<string, { readonly bytes: number; readonly proof: Proof }>();

  /** @param folder contains the weights file and temporary files */
  constructor(
    private readonly folder: string,
    private readonly file: string,
    private readonly weights: WeightsFile,
  ) {}

  /** One for each operator with packed weights, for its smallest matrix. */
  get proofs(): readonly Proof[] {
    return [...this.smallest.values()].map(({ proof }) => proof);
  }

  /** Writes the weights of a node, and returns where each of them is. */
  async write(reader: OnnxNode, made: readonly MadeWeight[]): Promise<readonly NodeWeight[]> {
    const { node } = reader;
    const [matrix] = made;
    if (!matrix || !PACKING.has(node.opType!) || node.input![1] !== matrix.info.name) return this.writePlain(made);
    const shape = JSON.stringify([node.opType, node.attribute, made.map(({ info }) => info.dims)]);
    const known = this.standIns.get(shape);
    if (known === "nothing") return this.writePlain(made);
    const trial = new Trial(this.folder, reader, made);
    try {
      const before = this.weights.size;
      const packed = await trial.pack(trial.plain, { keep: true });
      if (packed && made.every(({ info }) => bytesOfWeight(info) <= packed.length)) {
        const offset = trial.copyPacked(packed, this.weights);
        for (const standIn of known ? [known] : (["matrix and scales", "matrix"] as const)) {
          const places = [offset, this.scales.get(shape) ?? offset];
          const weights = trial.plain.map((weight, i) =>
            isStoodInFor(standIn, i) ? { ...weight, file: this.file, place: { ...weight.place, offset: places[i]! } } : weight,
          );
          const again = await trial.pack(weights, { keep: false });
          if (!again) continue;
          weights[0] = { ...weights[0]!, place: { ...weights[0]!.place, packed: { key: again.key, offset, length: packed.length } } };
          const results = known ? undefined : await provenResults(trial, weights);
          if (!known && !results) continue;
          const written = weights.map((weight, i) =>
            weight.file === this.file ? weight : { ...weight, file: this.file, place: this.append(made[i]!) },
          );
          this.standIns.set(shape, standIn);
          this.scales.set(shape, places[1]!);
          if (results) this.addProof({ node: reader, columns: trial.columns, weights: written, results });
          return written;
        }
        this.weights.cut(before);
      }
      this.standIns.set(shape, "nothing");
      return this.writePlain(made);
    } finally {
      trial.end();
    }
  }

  /** Writes weights as they are. */
  writePlain(made: readonly MadeWeight[]): readonly NodeWeight[] {
    return made.map((weight) => ({ info: weight.info, file: this.file, place: this.append(weight) }));
  }

  private append({ values }: MadeWeight): WeightPlace {
    return { offset: this.weights.append(values), length: values.byteLength };
  }

  private addProof(proof: Proof): void {
    const { node } = proof.node;
    const operator = JSON.stringify([
      node.opType,
      node.attribute?.filter(({ name }) => name !== "K" && name !== "N"),
      proof.weights.length,
    ]);
    const bytes = bytesOfWeight(proof.weights[0]!.info);
    const smallest = this.smallest.get(operator);
    if (!smallest || bytes < smallest.bytes) this.smallest.set(operator, { bytes, proof });
  }
}

/** The matrix is the first of a node's weights, the scales are the second. */
function isStoodInFor(standIn: StandIn, index: number): boolean {
  return index === 0 ? standIn !== "nothing" : index === 1 && standIn === "matrix and scales";
}

/** What a node computes with these weights, if that is the same as with plain ones. */
async function provenResults(trial: Trial, weights: readonly NodeWeight[]): Promise<readonly Float32Array[] | undefined> {
  const expected = await trial.run(trial.plain);
  const results = await trial.run(weights);
  return results.every((values, i) => values.every((value, at) => value === expected[i]![at])) ? results : undefined;
}

const PLAIN_FILE = "plain.bin";
const SAVED_FILE = "saved.bin";

/** A single node in a separate session. */
class Trial {
  /** The weights as they are. */
  readonly plain: readonly NodeWeight[];
  readonly columns: number;

  constructor(
    private readonly folder: string,
    private readonly node: OnnxNode,
    made: readonly MadeWeight[],
  ) {
    const file = new WeightsFile(join(folder, PLAIN_FILE));
    this.plain = made.map(({ info, values }) => ({
      info,
      file: PLAIN_FILE,
      place: { offset: file.append(values), length: values.byteLength },
    }));
    file.close();
    const { type, dims } = made[0]!.info;
    this.columns = type === "float32" ? dims[0]! : Number(node.node.attribute!.find(({ name }) => name === "K")!.i);
  }

  /** Lets ONNX Runtime pack the matrix, and returns where it saved it; undefined if it does not pack it. */
  async pack(weights: readonly NodeWeight[], { keep }: { readonly keep: boolean }): Promise<PackedPlace | undefined> {
    const saved = join(this.folder, "saved.onnx");
    rmSync(join(this.folder, SAVED_FILE), { force: true });
    if (!keep && process.platform !== "win32") symlinkSync(devNull, join(this.folder, SAVED_FILE));
    const session = await this.open(weights, {
      optimizedModelFilePath: saved,
      extra: {
        session: {
          optimized_model_external_initializers_file_name: SAVED_FILE,
          optimized_model_external_initializers_min_size_in_bytes: "0",
          save_external_prepacked_constant_initializers: "1",
        },
      },
    });
    await session.release();
    return new EncodedModel(readFileSync(saved)).placed().get(weights[0]!.info.name)?.packed;
  }

  /** Appends what the last call of `pack` kept to a weights file. */
  copyPacked({ offset, length }: PackedPlace, weights: WeightsFile): number {
    const source = openSync(join(this.folder, SAVED_FILE), "r");
    try {
      return weights.copy(source, offset, length);
    } finally {
      closeSync(source);
    }
  }

  async run(weights: readonly NodeWeight[]): Promise<readonly Float32Array[]> {
    const session = await this.open(weights);
    try {
      return await runNode(session, this.columns);
    } finally {
      await session.release();
    }
  }

  end(): void {
    for (const file of [PLAIN_FILE, SAVED_FILE]) rmSync(join(this.folder, file), { force: true });
  }

  private async open(weights: readonly NodeWeight[], options: InferenceSession.SessionOptions = {}): Promise<InferenceSession> {
    const path = join(this.folder, "node.onnx");
    writeFileSync(path, encodeNode(this.node, this.columns, weights));
    return openNode(path, options);
  }
}

/** Opens a model of one node without optimising it. */
export function openNode(path: string, options: InferenceSession.SessionOptions = {}): Promise<InferenceSession> {
  return InferenceSession.create(path, { ...options, graphOptimizationLevel: "disabled", intraOpNumThreads: 1 });
}

/** What a model of one node computes from inputs of one token, two, and enough that other kernels are used. */
export async function runNode(session: InferenceSession, columns: number): Promise<readonly Float32Array[]> {
  const results: Float32Array[] = [];
  for (const tokens of [1, 2, 33]) {
    const values = Float32Array.from({ length: tokens * columns }, (_, i) => Math.sin(i * i + i));
    const { [NODE_OUTPUT]: output } = await session.run({ [NODE_INPUT]: new Tensor("float32", values, [1, tokens, columns]) });
    results.push(output!.data as Float32Array);
  }
  return results;
}
