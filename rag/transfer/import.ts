import { createInterface } from "node:readline/promises";
import { Readable } from "node:stream";

import type { z } from "zod";

import {
  type BlockKey,
  type BlockStore,
  blockFits,
  decodeSafetensors,
  isLink,
  KvspliceError,
  type Model,
  type Seal,
  sameSeal,
} from "../../engine/index.js";
import type { CorpusRecords, NewChunk } from "../corpus/records.js";
import { documentSource } from "../question-plan.js";
import type { TransferOptions } from "./export.js";
import { Adapters, allParts, BLOCK, ChunkLine, FileLine, FileMetadata, FORMAT, LINK, RECORDS, SEAL, sealName, VECTORS } from "./form.js";
import { damaged, joinSafetensors, type Metadata, SafetensorsFile } from "./safetensors.js";

/** What was read, and how much of it was new. */
export type ImportReport = {
  /** Blocks of the file, and how many of them the store did not have. */
  readonly blocks: number;
  readonly imported: number;
  /** Documents' files that were added, that were the same already, and that differed and were kept as they are here. */
  readonly files: number;
  readonly unchanged: number;
  readonly kept: number;
  /** The linking taken from the file; undefined if it has none, or the corpus already had its own. */
  readonly link?: string | undefined;
  /** Of the whole corpus afterwards. */
  readonly chunks: number;
  readonly tokens: number;
};

/** Where to import it. */
export type Importing = { readonly records: CorpusRecords; readonly model: Model; readonly store: BlockStore };

/**
 * Adds an exported corpus to this one: existing content does not change, and blocks that the store already has are not
 * read. The corpus changes only once the whole file was found intact; an interrupted run can be continued.
 *
 * @throws KvspliceError `bad_file` if the file is damaged, or was made with another model or embedder; `cancelled`,
 *   `no_space`
 */
export async function importCorpus(importing: Importing, path: string, options: TransferOptions = {}): Promise<ImportReport> {
  const files = await openParts(path);
  try {
    mustFit(files[0]!, importing);
    const found = await importBlocks(files, importing, options);
    await mustVerify(files[0]!, options.seal);
    const merged = await importRecords(files[0]!, importing, options);
    const link = importLink(files[0]!, importing);
    const { chunks, tokens } = importing.records.totals;
    return { ...found, ...merged, ...(link !== undefined && { link }), chunks, tokens };
  } finally {
    for (const file of files) await file.close();
  }
}

/** An exported file's description. */
export async function peekExport(path: string): Promise<FileMetadata> {
  const file = await SafetensorsFile.open(path);
  try {
    return metadataOf(file);
  } finally {
    await file.close();
  }
}

/** Checks, before a store is created for it, that an exported file fits this model. */
export async function mustBeImportable(path: string, made: { readonly model: Model; readonly embedder: string }): Promise<void> {
  const files = await openParts(path);
  try {
    mustFit(files[0]!, { model: made.model, records: { writer: { embedder: made.embedder } } });
  } finally {
    for (const file of files) await file.close();
  }
}

/** All files of the export, in order. */
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
  if (!parsed.success) throw new KvspliceError("bad_file", `${path} is not an exported corpus; name a file from kvsplice store export.`);
  if (parsed.data.format !== FORMAT)
    throw new KvspliceError(
      "bad_file",
      `${path} has format ${parsed.data.format}, but this kvsplice reads ${FORMAT}; update kvsplice, or export again.`,
    );
  return parsed.data;
}

function mustFit(
  file: SafetensorsFile,
  { model, records }: { readonly model: Model; readonly records: { readonly writer: { readonly embedder: string } } },
): void {
  const made = metadataOf(file);
  mustHaveAdapters(file, made, model);
  if (made.encoding !== model.encoding) {
    throw new KvspliceError(
      "bad_file",
      `${file.path} has blocks encoded as ${made.encoding}, not ${model.encoding}; import it with --encoding ${made.encoding}, into a separate folder.`,
    );
  }
  if (made.model !== model.id) {
    throw new KvspliceError(
      "bad_file",
      `${file.path} was made with the model ${made.model_name} (${made.model.slice(0, 12)}), not with ${model.name} (${model.id.slice(0, 12)}); import it with that model: --model.`,
    );
  }
  if (made.precision !== model.precision) {
    throw new KvspliceError(
      "bad_file",
      `${file.path} stores blocks as ${made.precision}, not as ${model.precision}; a corpus has one precision, so import it into another folder.`,
    );
  }
  if (made.blocks_of !== model.keyOf(documentSource(model, []))) {
    throw new KvspliceError(
      "bad_file",
      `${file.path} stores blocks in the format of another version of kvsplice; export it again with this one.`,
    );
  }
  if (made.embedder !== records.writer.embedder) {
    throw new KvspliceError(
      "bad_file",
      `${file.path} was embedded by ${made.embedder}, not by ${records.writer.embedder}; import it with that encoder: --embedder.`,
    );
  }
}

/** @throws KvspliceError `bad_file` if its blocks were made with other adapters, or without */
function mustHaveAdapters({ path }: SafetensorsFile, { adapters, model_name }: FileMetadata, model: Model): void {
  const made = adaptersIn(path, adapters);
  const isSame = made.length === model.adapters.length && made.every(({ id }) => model.adapters.some((own) => own.id === id));
  if (isSame) return;
  const named = (those: readonly { readonly name: string }[]) =>
    those.length === 0 ? "without an adapter" : `with ${those.map(({ name }) => name).join(" and ")}`;
  const how = made.length === 0 ? "without --adapter" : `with ${made.map(({ name }) => `--adapter ${name}`).join(" ")}`;
  throw new KvspliceError(
    "bad_file",
    `${path} was made ${named(made)} (${model_name}), but is opened ${named(model.adapters)}; import it ${how}.`,
  );
}

function adaptersIn(path: string, text = "[]"): z.infer<typeof Adapters> {
  try {
    return Adapters.parse(JSON.parse(text));
  } catch {
    throw damaged(path, "its adapters cannot be read");
  }
}

/** A corpus without an audit of its own takes over the file's linking. */
function importLink(file: SafetensorsFile, { records }: Importing): string | undefined {
  const { link } = metadataOf(file);
  if (link === undefined || records.link !== undefined) return undefined;
  if (!isLink(link)) throw damaged(file.path, `its link is "${link}"`);
  records.noteLink(link);
  return link;
}

async function importBlocks(
  files: readonly SafetensorsFile[],
  { model, store }: Importing,
  { signal, onProgress, seal }: TransferOptions,
): Promise<{ blocks: number; imported: number }> {
  const total = files.reduce((sum, file) => sum + namesOf(file).size, 0);
  let blocks = 0;
  let imported = 0;
  let bytes = 0;
  for (const file of files) {
    for (const [key, names] of namesOf(file)) {
      if (signal?.aborted)
        throw new KvspliceError("cancelled", "The import was cancelled. Blocks imported so far are kept; run again to continue.", {
          cause: signal.reason,
        });
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

/** The block as a separate file, whose checksum covers all of it. */
async function readBlock(file: SafetensorsFile, key: BlockKey, names: readonly string[], model: Model, seal: Seal | undefined) {
  const tensors = [];
  for (const name of names) tensors.push({ name: name.slice(key.length + 1), entry: file.entries.get(name)!, data: await file.read(name) });
  const metadata = JSON.parse(file.metadata[BLOCK + key] ?? "{}") as Metadata;
  const bytes = joinSafetensors(metadata, tensors);
  const block = decodeSafetensors(key, bytes);
  if (!block) throw damaged(file.path, `the checksum of block ${key.slice(0, 12)} is wrong`);
  if (seal) mustBeSealed(file, key, seal.of(key, bytes));
  if (!blockFits(model.form, block.tokens, block))
    throw damaged(file.path, `block ${key.slice(0, 12)} does not have the shape of ${model.name}'s blocks`);
  return block;
}

/** @throws KvspliceError `bad_file` if the content under a name was not sealed with this seal */
function mustBeSealed(file: SafetensorsFile, name: string, seal: Buffer): void {
  if (sameSeal(Buffer.from(file.metadata[SEAL + name] ?? "", "hex"), seal)) return;
  throw new KvspliceError(
    "bad_file",
    `${file.path} was not sealed with this KVSPLICE_STORE_KEY and namespace (${name.slice(0, 14)}), or was changed since; export it again with them, or import it without.`,
  );
}

async function mustVerify(file: SafetensorsFile, seal: Seal | undefined): Promise<void> {
  const { link, export: exported } = metadataOf(file);
  if (seal && link !== undefined) mustBeSealed(file, LINK, seal.of(sealName(exported, LINK), Buffer.from(link)));
  for (const name of [VECTORS, RECORDS]) {
    if ((await file.checksum(name)) !== file.metadata[name]) throw damaged(file.path, `the checksum of ${name} is wrong`);
    if (!seal) continue;
    const sealing = seal.begin(sealName(metadataOf(file).export, name));
    for await (const part of file.stream(name)) sealing.add(part);
    mustBeSealed(file, name, sealing.end());
  }
}

async function importRecords(
  file: SafetensorsFile,
  { records, model, store }: Importing,
  { signal }: TransferOptions,
): Promise<{ files: number; unchanged: number; kept: number }> {
  const counts = { files: 0, unchanged: 0, kept: 0 };
  const vectorBytes = 4 * (file.entries.get(VECTORS)?.shape[1] ?? 0);
  let at = 0;
  const lines = createInterface({ input: Readable.from(file.stream(RECORDS)), crlfDelay: Infinity })[Symbol.asyncIterator]();
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    if (signal?.aborted)
      throw new KvspliceError("cancelled", "The import was cancelled. Everything imported so far is kept; run again to continue.", {
        cause: signal.reason,
      });
    const { record: written, chunks } = parsed(file, FileLine, line.value);
    const record = { ...written, path: records.absolute(written.path) };
    const vectors = await file.read(VECTORS, at, (at += chunks * vectorBytes));
    const built: NewChunk[] = [];
    for (let index = 0; index < chunks; index++) {
      const chunk = parsed(file, ChunkLine, (await lines.next()).value as string);
      if (model.keyOf(documentSource(model, chunk.tokens)) !== chunk.block)
        throw damaged(file.path, `a chunk of ${record.path} has the key of another block`);
      if (!(await store.has(chunk.block))) throw damaged(file.path, `the block of a chunk of ${record.path} is missing`);
      const vector = vectors.subarray(index * vectorBytes, (index + 1) * vectorBytes);
      built.push({ ...chunk, vector: new Float32Array(Uint8Array.from(vector).buffer) });
    }
    const known = records.file(record.path);
    if (known === undefined) {
      await records.replaceFile(record, built);
      counts.files++;
    } else if (known.hash === record.hash) counts.unchanged++;
    else counts.kept++;
  }
  return counts;
}

function parsed<T>(
  file: SafetensorsFile,
  line: { safeParse(value: unknown): { success: boolean; data?: T } },
  text: string | undefined,
): T {
  let value: unknown;
  try {
    value = JSON.parse(text ?? "");
  } catch {
    throw damaged(file.path, "its records are not JSON");
  }
  const { success, data } = line.safeParse(value);
  if (!success) throw damaged(file.path, "its records do not have the expected fields");
  return data!;
}

function sizeOf(file: SafetensorsFile, name: string): number {
  const [start, end] = file.entries.get(name)!.data_offsets;
  return end - start;
}
