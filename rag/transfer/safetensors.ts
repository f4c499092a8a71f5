import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { crc32 } from "node:zlib";

import { KvspliceError, storageError } from "../../engine/index.js";

/**
 * Safetensors files (https://github.com/huggingface/safetensors, "Format"): the length of the header in 8 bytes,
 * little-endian; the header, JSON that begins with "{" and may end with spaces; then the tensors' bytes without gaps.
 */
export type TensorEntry = {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Half-open, from the end of the header. */
  readonly data_offsets: readonly [start: number, end: number];
};

export type Metadata = Readonly<Record<string, string>>;

/** The longest header that readers of the format accept. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Size in which small writes are buffered and long tensors read. */
const PART_BYTES = 2 ** 20;

const LENGTH_BYTES = 8;

/** CRC-32 of the header without it; 8 hex digits. */
const CHECKSUM = "checksum";

const BITS: Readonly<Record<string, number>> = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  F64: 64,
  I64: 64,
  U64: 64,
};

/**
 * Writes a file front to back, so that memory stays flat: room for the header is reserved at the front and padded with
 * spaces. The file gets its final name when it is complete.
 */
export class SafetensorsWriter {
  private readonly entries: Record<string, TensorEntry> = {};
  private length = 0;

  private constructor(
    private readonly path: string,
    private readonly draft: string,
    private readonly file: FileHandle,
    private readonly room_bytes: number,
  ) {}

  /** @param headerBytes at least as many as the header will need */
  static async create(path: string, headerBytes: number): Promise<SafetensorsWriter> {
    const draft = `${path}.partial`;
    const file = await open(draft, "w").catch((error: unknown) => {
      throw storageError(error, path, "export to another place");
    });
    return new SafetensorsWriter(path, draft, file, Math.ceil(headerBytes / 8) * 8);
  }

  get bytes(): number {
    return LENGTH_BYTES + this.room_bytes + this.length;
  }

  async add(name: string, { dtype, shape }: Pick<TensorEntry, "dtype" | "shape">, data: Uint8Array): Promise<void> {
    const start = this.length;
    await this.append(data);
    this.entries[name] = { dtype, shape, data_offsets: [start, this.length] };
  }

  /**
   * Adds a tensor whose length is known only at its end.
   * @returns CRC-32 of its bytes; 8 hex digits
   */
  async stream(name: string, dtype: string, parts: Iterable<Uint8Array>, shapeOf: (bytes: number) => readonly number[]): Promise<string> {
    const start = this.length;
    let checksum = 0;
    let gathered: Uint8Array[] = [];
    let size = 0;
    const flush = async () => {
      const data = Buffer.concat(gathered);
      checksum = crc32(data, checksum);
      await this.append(data);
      [gathered, size] = [[], 0];
    };
    for (const part of parts) {
      gathered.push(part);
      size += part.byteLength;
      if (size >= PART_BYTES) await flush();
    }
    await flush();
    this.entries[name] = { dtype, shape: shapeOf(this.length - start), data_offsets: [start, this.length] };
    return hex(checksum);
  }

  async finish(metadata: Metadata): Promise<void> {
    const header = Buffer.from(headerWith(metadata, this.entries));
    if (header.length > this.room_bytes) throw new Error(`The header takes ${header.length} bytes, but ${this.room_bytes} were reserved.`);
    const front = Buffer.alloc(LENGTH_BYTES + this.room_bytes, " ");
    front.writeBigUInt64LE(BigInt(this.room_bytes));
    header.copy(front, LENGTH_BYTES);
    await this.write(front, 0);
    await this.file.sync();
    await this.file.close();
    await rename(this.draft, this.path);
  }

  async abandon(): Promise<void> {
    await this.file.close().catch(() => undefined);
    await rm(this.draft, { force: true });
  }

  private async append(data: Uint8Array): Promise<void> {
    await this.write(data, LENGTH_BYTES + this.room_bytes + this.length);
    this.length += data.byteLength;
  }

  private async write(data: Uint8Array, at: number): Promise<void> {
    try {
      for (let done = 0; done < data.byteLength; )
        done += (await this.file.write(data, done, data.byteLength - done, at + done)).bytesWritten;
    } catch (error) {
      throw storageError(error, this.path, "export to another place");
    }
  }
}

/** A file whose header was read and is valid: every tensor is where the header says, and there is nothing else. */
export class SafetensorsFile {
  private constructor(
    readonly path: string,
    readonly bytes: number,
    readonly metadata: Metadata,
    readonly entries: ReadonlyMap<string, TensorEntry>,
    private readonly file: FileHandle,
    private readonly start: number,
  ) {}

  /** @throws KvspliceError `bad_file` if it cannot be read or is damaged */
  static async open(path: string): Promise<SafetensorsFile> {
    const file = await open(path, "r").catch((cause: Error) => {
      throw new KvspliceError("bad_file", `${path} cannot be read (${cause.message}); name a file from kvsplice store export.`, { cause });
    });
    try {
      const { size } = await file.stat();
      const length = Number((await readAt(file, path, 0, LENGTH_BYTES)).readBigUInt64LE());
      if (length > MAX_HEADER_BYTES || LENGTH_BYTES + length > size) throw damaged(path, "it is not a safetensors file, or was cut short");
      const { metadata, entries } = parseHeader(path, await readAt(file, path, LENGTH_BYTES, length));
      const start = LENGTH_BYTES + length;
      mustFill(path, entries, size - start);
      return new SafetensorsFile(path, size, metadata, new Map(Object.entries(entries)), file, start);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The tensor's bytes, or those in `[from, to)` of them. */
  async read(name: string, from = 0, to?: number): Promise<Buffer> {
    const entry = this.entries.get(name);
    if (!entry) throw damaged(this.path, `it has no tensor ${name}`);
    const [start, end] = entry.data_offsets;
    const length = (to ?? end - start) - from;
    if (from + length > end - start) throw damaged(this.path, `its tensor ${name} is too short`);
    return readAt(this.file, this.path, this.start + start + from, length);
  }

  async *stream(name: string): AsyncGenerator<Buffer> {
    const [start, end] = this.entries.get(name)?.data_offsets ?? [0, 0];
    for (let at = 0; at < end - start; at += PART_BYTES) yield this.read(name, at, Math.min(at + PART_BYTES, end - start));
  }

  /** CRC-32 of the tensor's bytes; 8 hex digits. */
  async checksum(name: string): Promise<string> {
    let sum = 0;
    for await (const part of this.stream(name)) sum = crc32(part, sum);
    return hex(sum);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

export function damaged(path: string, why: string): KvspliceError {
  return new KvspliceError("bad_file", `${path} is damaged (${why}); copy or export it again. The store was not changed.`);
}

/** Tensors and metadata of a file in memory, for few and small tensors. */
export function splitSafetensors(file: Buffer): { metadata: Metadata; tensors: { name: string; entry: TensorEntry; data: Buffer }[] } {
  const start = LENGTH_BYTES + Number(file.readBigUInt64LE());
  const { __metadata__: metadata, ...entries } = JSON.parse(file.toString("utf8", LENGTH_BYTES, start)) as {
    __metadata__: Metadata;
  } & Record<string, TensorEntry>;
  const tensors = Object.entries(entries as Record<string, TensorEntry>).map(([name, entry]) => {
    const [from, to] = entry.data_offsets;
    return { name, entry, data: file.subarray(start + from, start + to) };
  });
  return { metadata, tensors };
}

/** The reverse: the same file, byte for byte. */
export function joinSafetensors(
  metadata: Metadata,
  tensors: readonly { readonly name: string; readonly entry: Pick<TensorEntry, "dtype" | "shape">; readonly data: Buffer }[],
): Buffer {
  let at = 0;
  const entries = tensors.map(({ name, entry: { dtype, shape }, data }) => [
    name,
    { dtype, shape, data_offsets: [at, (at += data.length)] },
  ]);
  const json = Buffer.from(JSON.stringify({ __metadata__: metadata, ...Object.fromEntries(entries) }));
  const front = Buffer.alloc(LENGTH_BYTES + Math.ceil(json.length / 8) * 8, " ");
  front.writeBigUInt64LE(BigInt(front.length - LENGTH_BYTES));
  json.copy(front, LENGTH_BYTES);
  return Buffer.concat([front, ...tensors.map(({ data }) => data)]);
}

function headerWith(metadata: Metadata, entries: Readonly<Record<string, TensorEntry>>): string {
  const bare = { ...metadata, [CHECKSUM]: "" };
  const checksum = hex(crc32(JSON.stringify({ __metadata__: bare, ...entries })));
  return JSON.stringify({ __metadata__: { ...bare, [CHECKSUM]: checksum }, ...entries });
}

function parseHeader(path: string, header: Buffer): { metadata: Metadata; entries: Record<string, TensorEntry> } {
  const text = header.toString("utf8").trimEnd();
  let parsed: { __metadata__?: Metadata } & Record<string, TensorEntry>;
  try {
    parsed = JSON.parse(text) as typeof parsed;
  } catch {
    throw damaged(path, "its header is not JSON");
  }
  const { __metadata__: metadata = {}, ...entries } = parsed;
  if (metadata[CHECKSUM] === undefined)
    throw new KvspliceError("bad_file", `${path} is a safetensors file, but not from kvsplice store export; name one that is.`);
  if (headerWith(metadata, entries as Record<string, TensorEntry>) !== text) throw damaged(path, "its header's checksum is wrong");
  return { metadata, entries: entries as Record<string, TensorEntry> };
}

/** Checks the format's rules: no gap, no overlap, and as many bytes as the shape requires. */
function mustFill(path: string, entries: Readonly<Record<string, TensorEntry>>, bytes: number): void {
  let end = 0;
  for (const { dtype, shape, data_offsets } of Object.values(entries)) {
    const size = (shape.reduce((product, length) => product * length, 1) * (BITS[dtype] ?? Number.NaN)) / 8;
    if (data_offsets[0] !== end || data_offsets[1] - end !== size) throw damaged(path, "its tensors are not where its header says");
    end = data_offsets[1];
  }
  if (end !== bytes) throw damaged(path, bytes < end ? "it was cut short" : "it has bytes that belong to no tensor");
}

async function readAt(file: FileHandle, path: string, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done, at + done);
    if (bytesRead === 0) throw damaged(path, "it was cut short");
    done += bytesRead;
  }
  return bytes;
}

function hex(checksum: number): string {
  return checksum.toString(16).padStart(8, "0");
}
