import { createInterface } from "node:readline/promises";
import { Readable } from "node:stream";

import { blockFits, decodeSafetensors, KvspliceError, sameSeal, type BlockKey, type BlockStore, type Model, type Seal } from "../../engine/index.js";
import type { NewChunk, Records } from "../corpus/records.js";
import type { TransferOptions } from "./export.js";
import { allParts, BLOCK, ChunkLine, FileLine, FileMetadata, FORMAT, RECORDS, SEAL, sealName, VECTORS } from "./form.js";
import { damaged, joinSafetensors, type Metadata, SafetensorsFile } from "./safetensors.js";
import { documentSource } from "../prompt.js";

export type ImportReport = {
  /** Blocks of the file, and how many of them the store did not have. */
  readonly blocks: number;
  readonly imported: number;
  /** Documents' files that came into the corpus, those that it had as they are, and those that it had otherwise and kept. */
  readonly files: number;
  readonly unchanged: number;
  readonly kept: number;
  /** Of the whole corpus afterwards. */
  readonly chunks: number;
  readonly tokens: number;
};

/** Where it is imported to. */
export type Importing = { readonly records: Records; readonly model: Model; readonly store: BlockStore };

/**
 * Brings an exported corpus into this one: what is here stays as it is, a block that the store has is not read. The
 * corpus changes when all of the file was found sound; a run that was ended goes on where it was.
 *
 * @throws KvspliceError `bad_file` where the file is damaged, or another model or embedder made it; `cancelled`,
 *   `no_space`
 */
export async function importCorpus(importing: Importing, path: string, options: TransferOptions = {}): Promise<ImportReport> {
  const files = await openParts(path);
  try {
    mustFit(files[0]!, importing);
    const found = await importBlocks(files, importing, options);
    await mustVerify(files[0]!, options.seal);
    const merged = await importRecords(files[0]!, importing, options);
    const { chunks, tokens } = importing.records.totals;
    return { ...found, ...merged, chunks, tokens };
  } finally {
    for (const file of files) await file.close();
  }
}

/** What an exported file says of itself. */
export async function peekExport(path: string): Promise<FileMetadata> {
  const file = await SafetensorsFile.open(path);
  try {
    return metadataOf(file);
  } finally {
    await file.close();
  }
}

/** Says before a store is made for it whether an exported file is this model's. */
export async function mustBeImportable(path: string, made: { readonly model: Model; readonly embedder: string }): Promise<void> {
  const files = await openParts(path);
  try {
    mustFit(files[0]!, { model: made.model, records: { writer: { embedder: made.embedder } } });
  } finally {
    for (const file of files) await file.close();
  }
}

/** All files of the export, the first of them first. */
async function openParts(path: string): Promise<SafetensorsFile[]> {
  const first = await SafetensorsFile.open(path);
  const metadata = metadataOf(first);
  const paths = allParts(path, Number(metadata.parts));
  if (paths.length === 1) return [first];
  await first.close();
  const files: SafetensorsFile[] = [];
  try {
    for (const part of paths) {
      files.push(await SafetensorsFile.open(part));
      if (metadataOf(files.at(-1)!).export !== metadata.export) throw damaged(part, "it is part of another export");
    }
    return files;
  } catch (error) {
    for (const file of files) await file.close();
    throw error;
  }
}

function metadataOf({ path, metadata }: SafetensorsFile): FileMetadata {
  const parsed = FileMetadata.safeParse(metadata);
  if (!parsed.success) throw new KvspliceError("bad_file", `${path} is no exported corpus; name a file of kvsplice store export.`);
  if (parsed.data.format !== FORMAT) throw new KvspliceError("bad_file", `${path} has the format ${parsed.data.format}, this kvsplice reads ${FORMAT}; update kvsplice, or export again.`);
  return parsed.data;
}

function mustFit(file: SafetensorsFile, { model, records }: { readonly model: Model; readonly records: { readonly writer: { readonly embedder: string } } }): void {
  const made = metadataOf(file);
  if (made.model !== model.id) {
    throw new KvspliceError("bad_file", `${file.path} was made by the model ${made.model_name} (${made.model.slice(0, 12)}), not by ${model.name} (${model.id.slice(0, 12)}); import it with that model: --model.`);
  }
  if (made.precision !== model.precision) {
    throw new KvspliceError("bad_file", `${file.path} keeps its blocks in ${made.precision}, not in ${model.precision}; a corpus has one precision, so import it into another folder.`);
  }
  if (made.blocks_of !== model.keyOf(documentSource(model, []))) {
    throw new KvspliceError("bad_file", `${file.path} keeps its blocks as another version of kvsplice does; export it again with this one.`);
  }
  if (made.embedder !== records.writer.embedder) {
    throw new KvspliceError("bad_file", `${file.path} was embedded by ${made.embedder}, not by ${records.writer.embedder}; use that embedder.`);
  }
}

async function importBlocks(files: readonly SafetensorsFile[], { model, store }: Importing, { signal, onProgress, seal }: TransferOptions): Promise<{ blocks: number; imported: number }> {
  const total = files.reduce((sum, file) => sum + namesOf(file).size, 0);
  let blocks = 0;
  let imported = 0;
  let bytes = 0;
  for (const file of files) {
    for (const [key, names] of namesOf(file)) {
      if (signal?.aborted) throw new KvspliceError("cancelled", "The import was cancelled. The blocks that came are kept; run again to go on.", { cause: signal.reason });
      if (!(await store.has(key))) {
        await store.put(key, await readBlock(file, key, names, model, seal), { model: model.name });
        imported++;
      }
      blocks++;
      bytes += names.reduce((sum, name) => sum + sizeOf(file, name), 0);
      onProgress?.({ blocks, total, bytes });
    }
  }
  return { blocks, imported };
}

/** Names of each block's tensors. */
function namesOf(file: SafetensorsFile): Map<BlockKey, string[]> {
  const names = new Map<BlockKey, string[]>();
  for (const name of file.entries.keys()) {
    if (name === VECTORS || name === RECORDS) continue;
    const key = name.slice(0, name.indexOf("."));
    const known = names.get(key);
    if (known) known.push(name);
    else names.set(key, [name]);
  }
  return names;
}

/** The block as its own file, whose checksum covers all of it. */
async function readBlock(file: SafetensorsFile, key: BlockKey, names: readonly string[], model: Model, seal: Seal | undefined) {
  const tensors = [];
  for (const name of names) tensors.push({ name: name.slice(key.length + 1), entry: file.entries.get(name)!, data: await file.read(name) });
  const metadata = JSON.parse(file.metadata[BLOCK + key] ?? "{}") as Metadata;
  const bytes = joinSafetensors(metadata, tensors);
  const block = decodeSafetensors(key, bytes);
  if (!block) throw damaged(file.path, `block ${key.slice(0, 12)} does not verify`);
  if (seal) mustBeSealed(file, key, seal.of(key, bytes));
  if (!blockFits(model.form, block.tokens, block)) throw damaged(file.path, `block ${key.slice(0, 12)} has another shape than those of ${model.name}`);
  return block;
}

/** @throws KvspliceError `bad_file` where what stands under a name was not sealed by this seal */
function mustBeSealed(file: SafetensorsFile, name: string, seal: Buffer): void {
  if (sameSeal(Buffer.from(file.metadata[SEAL + name] ?? "", "hex"), seal)) return;
  throw new KvspliceError("bad_file", `${file.path} was not sealed with this KVSPLICE_STORE_KEY and namespace (${name.slice(0, 14)}), or was changed since; export it again with them, or import it without.`);
}

async function mustVerify(file: SafetensorsFile, seal: Seal | undefined): Promise<void> {
  for (const name of [VECTORS, RECORDS]) {
    if ((await file.checksum(name)) !== file.metadata[name]) throw damaged(file.path, `${name} does not verify`);
    if (!seal) continue;
    const sealing = seal.begin(sealName(metadataOf(file).export, name));
    for await (const part of file.stream(name)) sealing.add(part);
    mustBeSealed(file, name, sealing.end());
  }
}

async function importRecords(file: SafetensorsFile, { records, model, store }: Importing, { signal }: TransferOptions): Promise<{ files: number; unchanged: number; kept: number }> {
  const counts = { files: 0, unchanged: 0, kept: 0 };
  const vectorBytes = 4 * (file.entries.get(VECTORS)?.shape[1] ?? 0);
  let at = 0;
  const lines = createInterface({ input: Readable.from(file.stream(RECORDS)), crlfDelay: Infinity })[Symbol.asyncIterator]();
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    if (signal?.aborted) throw new KvspliceError("cancelled", "The import was cancelled. What came is kept; run again to go on.", { cause: signal.reason });
    const { record: written, chunks } = parsed(file, FileLine, line.value);
    const record = { ...written, path: records.absolute(written.path) };
    const vectors = await file.read(VECTORS, at, (at += chunks * vectorBytes));
    const built: NewChunk[] = [];
    for (let index = 0; index < chunks; index++) {
      const chunk = parsed(file, ChunkLine, (await lines.next()).value as string);
      if (model.keyOf(documentSource(model, chunk.tokens)) !== chunk.block) throw damaged(file.path, `a chunk of ${record.path} has another block's key`);
      if (!(await store.has(chunk.block))) throw damaged(file.path, `the block of a chunk of ${record.path} is missing`);
      const vector = vectors.subarray(index * vectorBytes, (index + 1) * vectorBytes);
      built.push({ ...chunk, vector: new Float32Array(Uint8Array.from(vector).buffer) });
    }
    const known = records.file(record.path);
    if (known === undefined) {
      records.replaceFile(record, built);
      counts.files++;
    } else if (known.hash === record.hash) counts.unchanged++;
    else counts.kept++;
  }
  return counts;
}

function parsed<T>(file: SafetensorsFile, line: { safeParse(value: unknown): { success: boolean; data?: T } }, text: string | undefined): T {
  let value: unknown;
  try {
    value = JSON.parse(text ?? "");
  } catch {
    throw damaged(file.path, "its records are no JSON");
  }
  const { success, data } = line.safeParse(value);
  if (!success) throw damaged(file.path, "its records have another form");
  return data!;
}

function sizeOf(file: SafetensorsFile, name: string): number {
  const [start, end] = file.entries.get(name)!.data_offsets;
  return end - start;
}
