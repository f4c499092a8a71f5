import { open, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { InferenceSession } from "../../../runtime/index.js";
import { runNode } from "./prepack.js";

/** The folder of all models' graphs. */
export function graphsFolder(cacheDir: string): string {
  return join(cacheDir, "graphs");
}

export const WEIGHTS_FILE = "weights.bin";

/** The graphs of a folder. The first has all weights, the others have its first ones or all of them, in the same order. */
export const GRAPH_FILES = ["decoder.onnx", "batch.onnx", "look.onnx", "adapted.onnx"] as const;

export type GraphFile = (typeof GRAPH_FILES)[number];

export const MANIFEST_FILE = "manifest.json";
/** A CRC-32 for each piece of the weights file. */
const SUMS_FILE = "weights.crc";
export const PIECE_BYTES = 1 << 16;
/** Pieces that are looked at when a folder is opened: a file that was damaged in one of a hundred pieces is found then. */
const SAMPLED_PIECES = 64;
const READ_PIECES = 256;

/** What a folder says of itself. */
type Manifest = {
  readonly version: 1;
  /** The model's name. */
  readonly name: string;
  readonly weightsBytes: number;
  /** CRC-32 of each of the other files. */
  readonly sums: Readonly<Record<string, number>>;
  readonly proofs: readonly { readonly file: string; readonly columns: number; readonly results: readonly string[] }[];
};

/** Writes down what the folder must be, from what is in it. */
export async function writeManifest(folder: string, name: string, proofs: readonly { readonly model: Uint8Array; readonly columns: number; readonly results: readonly Float32Array[] }[]): Promise<void> {
  const noted = proofs.map(({ columns, results }, i) => ({ file: `proof-${i}.onnx`, columns, results: results.map(startOf) }));
  for (const [i, { file }] of noted.entries()) await writeFile(join(folder, file), proofs[i]!.model);
  const sums: number[] = [];
  await eachRun(folder, (piece) => void sums.push(crc32(piece)));
  await writeFile(join(folder, SUMS_FILE), Uint32Array.from(sums));
  const files = [...GRAPH_FILES, SUMS_FILE, ...noted.map(({ file }) => file)];
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
 * Whether built graphs are as they were built, and this processor computes with them as the one that built them did.
 * `sampled` reads all but the weights, and some pieces of these; `whole` reads everything.
 */
export async function areGraphsSound(folder: string, how: "sampled" | "whole"): Promise<boolean> {
  try {
    const manifest = JSON.parse(await readFile(join(folder, MANIFEST_FILE), "utf8")) as Manifest;
    if (manifest.version !== 1 || (await stat(join(folder, WEIGHTS_FILE))).size !== manifest.weightsBytes) return false;
    for (const [file, sum] of Object.entries(manifest.sums)) if (crc32(await readFile(join(folder, file))) !== sum) return false;
    return (await areWeightsSound(folder, how)) && (await areProofsSound(folder, manifest));
  } catch {
    return false; // a file is missing, or no graph
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
      for (let from = 0; from < bytesRead; from += PIECE_BYTES) use(buffer.subarray(from, Math.min(from + PIECE_BYTES, bytesRead)), index++);
      if (bytesRead < buffer.length) return;
    }
  } finally {
    await file.close();
  }
}

async function areProofsSound(folder: string, { proofs }: Manifest): Promise<boolean> {
  for (const { file, columns, results } of proofs) {
    const session = await InferenceSession.create(join(folder, file), { graphOptimizationLevel: "disabled", intraOpNumThreads: 1 });
    try {
      const found = await runNode(session, columns);
      if (!found.every((values, i) => startOf(values) === results[i])) return false;
    } finally {
      await session.release();
    }
  }
  return true;
}

/** The first numbers of a result, in text. */
function startOf(values: Float32Array): string {
  return Buffer.from(values.slice(0, 64).buffer).toString("base64");
}
