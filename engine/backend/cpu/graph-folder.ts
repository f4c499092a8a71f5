import { open, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";

/** The folder of all models' graphs. */
export function graphsFolder(cacheDir: string): string {
  return join(cacheDir, "graphs");
}

export const WEIGHTS_FILE = "weights.bin";

/** A model's graphs. The first has all weights; the others have the first ones or all of them, in the same order. */
export const GRAPH_FILES = ["decoder.onnx", "batch.onnx", "look.onnx", "adapted.onnx"] as const;

/** A graph over the same weights that exists only while magnitudes are measured. */
export const MAGNITUDES_FILE = "magnitudes.onnx";

/** The graphs that encode blocks in 8 bits, with separate weights, also in a common order. */
export const ENCODER_FILES = ["encoder.onnx", "adapted-encoder.onnx"] as const;

/**
 * The graphs for a device, with separate weights, also in a common order: passes over a prompt, the same with a mask, over
 * several prompts, what a prompt attends to, and passes over blocks.
 */
export const DEVICE_FILES = ["prompt.onnx", "masked.onnx", "several.onnx", "looks.onnx", "blocks.onnx"] as const;

export type GraphFile = (typeof GRAPH_FILES | typeof ENCODER_FILES | typeof DEVICE_FILES)[number];

export const MANIFEST_FILE = "manifest.json";
/** A CRC-32 for each piece of the weights file. */
const SUMS_FILE = "weights.crc";
export const PIECE_BYTES = 1 << 16;
/** Pieces checked when a folder is opened: enough to find a file with one in a hundred pieces damaged. */
const SAMPLED_PIECES = 64;
const READ_PIECES = 256;

/** What a folder records about itself. */
type Manifest = {
  readonly version: 1;
  /** The model's name. */
  readonly name: string;
  readonly weightsBytes: number;
  /** CRC-32 of each of the other files. */
  readonly sums: Readonly<Record<string, number>>;
  readonly proofs: readonly { readonly file: string; readonly columns: number; readonly results: readonly string[] }[];
};

/** Records what the folder must contain, from its present content. */
export async function writeManifest(
  folder: string,
  graphs: readonly GraphFile[],
  name: string,
  proofs: readonly { readonly model: Uint8Array; readonly columns: number; readonly results: readonly Float32Array[] }[],
): Promise<void> {
  const noted = proofs.map(({ columns, results }, i) => ({ file: `proof-${i}.onnx`, columns, results: results.map(startOf) }));
  for (const [i, { file }] of noted.entries()) await writeFile(join(folder, file), proofs[i]!.model);
  const sums: number[] = [];
  await eachRun(folder, (piece) => void sums.push(crc32(piece)));
  await writeFile(join(folder, SUMS_FILE), Uint32Array.from(sums));
  const files = [...graphs, SUMS_FILE, ...noted.map(({ file }) => file)];
  const manifest: Manifest = {
    version: 1,
    name,
    weightsBytes: (await stat(join(folder, WEIGHTS_FILE))).size,
    sums: Object.fromEntries(await Promise.all(files.map(async (file) => [file, crc32(await readFile(join(folder, file)))] as const))),
    proofs: noted,
  };
  await writeFile(join(folder, MANIFEST_FILE), JSON.stringify(manifest));
}

/**
 * Whether these graphs exist, all are as built, and this processor computes the same with them as the one that built them.
 * `sampled` reads everything except the weights, of which it reads some pieces; `whole` reads everything.
 */
export async function areGraphsSound(folder: string, how: "sampled" | "whole", graphs: readonly GraphFile[] = []): Promise<boolean> {
  try {
    const manifest = JSON.parse(await readFile(join(folder, MANIFEST_FILE), "utf8")) as Manifest;
    if (manifest.version !== 1 || (await stat(join(folder, WEIGHTS_FILE))).size !== manifest.weightsBytes) return false;
    if (!graphs.every((file) => file in manifest.sums)) return false; // an earlier version had fewer
    for (const [file, sum] of Object.entries(manifest.sums)) if (crc32(await readFile(join(folder, file))) !== sum) return false;
    return (await areWeightsSound(folder, how)) && (await areProofsSound(folder, manifest));
  } catch {
    return false; // a file is missing or is not a graph
  }
}

async function areWeightsSound(folder: string, how: "sampled" | "whole"): Promise<boolean> {
  const bytes = await readFile(join(folder, SUMS_FILE));
  const sums = new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  let sound = true;
  if (how === "whole") {
    await eachRun(folder, (piece, i) => void (sound &&= crc32(piece) === sums[i]));
    return sound;
  }
  const file = await open(join(folder, WEIGHTS_FILE));
  try {
    for (let i = 0; i < SAMPLED_PIECES; i++) {
      const piece = Math.floor(Math.random() * sums.length);
      const buffer = Buffer.alloc(PIECE_BYTES);
      const { bytesRead } = await file.read(buffer, 0, PIECE_BYTES, piece * PIECE_BYTES);
      sound &&= crc32(buffer.subarray(0, bytesRead)) === sums[piece];
    }
  } finally {
    await file.close();
  }
  return sound;
}

async function eachRun(folder: string, use: (piece: Buffer, index: number) => void): Promise<void> {
  const file = await open(join(folder, WEIGHTS_FILE));
  try {
    const buffer = Buffer.alloc(PIECE_BYTES * READ_PIECES);
    for (let index = 0, at = 0; ; at += buffer.length) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      for (let from = 0; from < bytesRead; from += PIECE_BYTES)
        use(buffer.subarray(from, Math.min(from + PIECE_BYTES, bytesRead)), index++);
      if (bytesRead < buffer.length) return;
    }
  } finally {
    await file.close();
  }
}

async function areProofsSound(folder: string, { proofs }: Manifest): Promise<boolean> {
  // Commands that only list folders do not load ONNX Runtime.
  const { openNode, runNode } = await import("./prepack.js");
  for (const { file, columns, results } of proofs) {
    const session = await openNode(join(folder, file));
    try {
      const found = await runNode(session, columns);
      if (!found.every((values, i) => startOf(values) === results[i])) return false;
    } finally {
      await session.release();
    }
  }
  return true;
}

/** The first numbers of a result, as text. */
function startOf(values: Float32Array): string {
  return Buffer.from(values.slice(0, 64).buffer).toString("base64");
}
