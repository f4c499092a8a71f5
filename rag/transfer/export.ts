import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";

import {
  type Block,
  type BlockKey,
  type BlockStore,
  blockFits,
  encodeSafetensors,
  KvspliceError,
  type Model,
  type Seal,
  type Sealing,
} from "../../engine/index.js";
import type { CorpusRecords } from "../corpus/records.js";
import { documentSource } from "../question-plan.js";
import { BLOCK, type FileMetadata, FORMAT, LINK, partPath, RECORDS, SEAL, sealName, VECTORS } from "./form.js";
import { MAX_HEADER_BYTES, type Metadata, SafetensorsWriter, splitSafetensors, type TensorEntry } from "./safetensors.js";

/** Options for an export or import. */
export type TransferOptions = {
  /** Seals everything that is written, and rejects anything read without a valid seal (docs/security.md). */
  readonly seal?: Seal | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each block. */
  readonly onProgress?: ((done: TransferProgress) => void) | undefined;
};

/** Blocks done so far, and their bytes. */
export type TransferProgress = { readonly blocks: number; readonly total: number; readonly bytes: number };

/** How to write a corpus. */
export type ExportOptions = TransferOptions & {
  /** Limit of one file's header; by default what safetensors readers accept. Blocks beyond it go into further files. */
  readonly maxHeaderBytes?: number | undefined;
};

/** What was written. */
export type ExportReport = {
  /** One, or several if one header has no room for all blocks. */
  readonly paths: readonly string[];
  readonly bytes: number;
  readonly blocks: number;
  readonly files: number;
  readonly chunks: number;
  readonly tokens: number;
};

/** What to export, and from where. */
export type Exported = { readonly records: CorpusRecords; readonly model: Model; readonly store: BlockStore };

/** Bytes of the header besides those of blocks. */
const FRAME_BYTES = 4096;

/** Maximum digits of offsets and lengths in a header. */
const OFFSET_DIGITS = 16;
const SHAPE_DIGITS = 8;

/**
 * Writes a corpus with its blocks to one safetensors file (docs/store-format.md). Blocks are read one at a time, so only
 * the header's memory grows.
 *
 * @throws KvspliceError `bad_file` if the path exists, `bad_store` if a block is missing or the corpus changes
 *   meanwhile, `cancelled`, `no_space`
 */
export async function exportCorpus({ records, model, store }: Exported, path: string, options: ExportOptions = {}): Promise<ExportReport> {
  const { generation } = records;
  const { maxHeaderBytes = MAX_HEADER_BYTES } = options;
  const keys = await keysOf({ records, model, store });
  const perBlock = keys.length === 0 ? 0 : headerBytesOf(keys[0]!, await mustGet({ store, model }, keys[0]!), options.seal !== undefined);
  const perFile = Math.max(1, Math.floor((maxHeaderBytes - FRAME_BYTES) / Math.max(1, perBlock)));
  const parts = Math.max(1, Math.ceil(keys.length / perFile));
  const paths = Array.from({ length: parts }, (_, index) => partPath(path, index + 1, parts));
  const taken = [path, ...paths].find((name) => existsSync(name));
  if (taken !== undefined) throw new KvspliceError("bad_file", `${taken} already exists; remove it, or export to another name.`);

  const shared = {
    format: FORMAT,
    model: model.id,
    model_name: model.name,
    ...(model.adapters.length > 0 && { adapters: JSON.stringify(model.adapters.map(({ name, id }) => ({ name, id }))) }),
    precision: model.precision,
    encoding: model.encoding,
    blocks_of: model.keyOf(documentSource(model, [])),
    embedder: records.writer.embedder,
    ...(records.link !== undefined && { link: records.link }),
    export: randomUUID(),
    parts: String(parts),
  };
  let bytes = 0;
  let blocks = 0;
  const written: string[] = [];
  try {
    for (const [index, name] of paths.entries()) {
      const mine = keys.slice(index * perFile, (index + 1) * perFile);
      const writer = await SafetensorsWriter.create(name, FRAME_BYTES + mine.length * perBlock);
      try {
        const metadata: Record<string, string> = {
          ...shared,
          ...sealOfLink(shared, options.seal),
          part: String(index + 1),
        } satisfies FileMetadata;
        for (const key of mine) {
          if (options.signal?.aborted)
            throw new KvspliceError("cancelled", "The export was cancelled; its files were removed.", { cause: options.signal.reason });
          Object.assign(metadata, await addBlock(writer, key, await mustGet({ store, model }, key), options.seal));
          blocks++;
          options.onProgress?.({ blocks, total: keys.length, bytes: bytes + writer.bytes });
        }
        if (index === 0)
          Object.assign(metadata, await addRecords(writer, records, (name) => options.seal?.begin(sealName(shared.export, name))));
        if (records.generation !== generation)
          throw new KvspliceError("bad_store", "The corpus was changed during the export; export it again.");
        await writer.finish(metadata);
      } catch (error) {
        await writer.abandon();
        throw error;
      }
      written.push(name);
      bytes += writer.bytes;
    }
  } catch (error) {
    for (const name of written) await rm(name, { force: true });
    throw error;
  }
  return { paths, bytes, blocks, ...records.totals };
}

function sealOfLink({ export: exported, link }: Pick<FileMetadata, "export" | "link">, seal: Seal | undefined): Metadata {
  return seal && link !== undefined ? { [SEAL + LINK]: seal.of(sealName(exported, LINK), Buffer.from(link)).toString("hex") } : {};
}

/** The chunks' blocks and, if stored, the system prompt's: with them, an answer has nothing to encode. */
async function keysOf({ records, model, store }: Exported): Promise<BlockKey[]> {
  const keys = [...records.blockKeys()];
  const system = systemBlock(model);
  if (!keys.includes(system) && (await store.has(system))) keys.push(system);
  return keys;
}

/** The block that begins every answer over documents. */
export function systemBlock(model: Pick<Model, "keyOf" | "tokenizer" | "card">): BlockKey {
  return model.keyOf({ tokens: model.tokenizer.encode(model.card.prompt.system, { control: true }) });
}

async function mustGet({ store, model }: Pick<Exported, "store" | "model">, key: BlockKey): Promise<Block> {
  const block = await store.get(key);
  if (block && blockFits(model.form, block.tokens, block)) return block;
  throw new KvspliceError(
    "bad_store",
    `Block ${key.slice(0, 12)} of the corpus is missing or damaged; encode it again with kvsplice precompute, then export.`,
  );
}

/** @returns metadata: the block's own, which its checksum covers, and its seal */
async function addBlock(writer: SafetensorsWriter, key: BlockKey, block: Block, seal: Seal | undefined): Promise<Metadata> {
  const file = Buffer.concat(encodeSafetensors(key, block));
  const { metadata, tensors } = splitSafetensors(file);
  for (const { name, entry, data } of tensors) await writer.add(`${key}.${name}`, entry, data);
  return { [BLOCK + key]: JSON.stringify(metadata), ...(seal && { [SEAL + key]: seal.of(key, file).toString("hex") }) };
}

/** The most bytes that a block like this adds to a header. */
function headerBytesOf(key: BlockKey, block: Block, sealed: boolean): number {
  const { metadata, tensors } = splitSafetensors(Buffer.concat(encodeSafetensors(key, block)));
  const offset = 10 ** OFFSET_DIGITS - 1;
  const longest = tensors.map(({ name, entry }): [string, TensorEntry] => [
    `${key}.${name}`,
    { dtype: entry.dtype, shape: entry.shape.map(() => 10 ** SHAPE_DIGITS - 1), data_offsets: [offset, offset] },
  ]);
  return JSON.stringify({ [BLOCK + key]: JSON.stringify(metadata), ...(sealed && { [SEAL + key]: key }), ...Object.fromEntries(longest) })
    .length;
}

/** Files in the order in which they were added, so that equal scores have the same order after an import. */
function filesInOrder(records: CorpusRecords): string[] {
  const firsts = Array.from(records.allFiles(), ({ path, chunks }) => ({ path, first: chunks[0] ?? 0 }));
  return firsts.sort((a, b) => a.first - b.first).map(({ path }) => path);
}

async function addRecords(
  writer: SafetensorsWriter,
  records: CorpusRecords,
  sealing: (name: string) => Sealing | undefined,
): Promise<Metadata> {
  const files = filesInOrder(records);
  let dimensions = 0;
  function* vectors(): Generator<Uint8Array> {
    for (const file of files) {
      for (const id of records.file(file)!.chunks) {
        const vector = records.vector(id)!;
        dimensions = vector.length;
        yield new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
      }
    }
  }
  function* lines(): Generator<Uint8Array> {
    for (const file of files) {
      const { chunks, ...record } = records.file(file)!;
      const path = records.written(file);
      const problems = record.problems.map((problem) => ({ ...problem, path }));
      yield Buffer.from(`${JSON.stringify({ file: path, record: { ...record, path, problems }, chunks: chunks.length })}\n`);
      for (const id of chunks) {
        const { title, text, tokens, block, page, fields } = records.chunk(id)!;
        yield Buffer.from(`${JSON.stringify({ title, text, tokens, block, page, fields })}\n`);
      }
    }
  }
  const width = (bytes: number) => bytes / 4 / Math.max(1, dimensions);
  const metadata: Record<string, string> = {};
  for (const [name, dtype, parts, shapeOf] of [
    [VECTORS, "F32", vectors(), (bytes: number) => [width(bytes), dimensions]],
    [RECORDS, "U8", lines(), (bytes: number) => [bytes]],
  ] as const) {
    const seal = sealing(name);
    metadata[name] = await writer.stream(name, dtype, seal ? addedTo(seal, parts) : parts, shapeOf);
    if (seal) metadata[SEAL + name] = seal.end().toString("hex");
  }
  return metadata;
}

function* addedTo(seal: Sealing, parts: Iterable<Uint8Array>): Generator<Uint8Array> {
  for (const part of parts) {
    seal.add(part);
    yield part;
  }
}
