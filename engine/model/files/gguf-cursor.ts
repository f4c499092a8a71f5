import { KvspliceError } from "../../../plan/index.js";
import { readFully } from "../../../storage/index.js";

/** Bytes read at a time; a longer string is read in one go. */
const CHUNK_BYTES = 1 << 20;

/** Some `tokenizer.huggingface.json` are 20 MB long. */
const MAX_STRING_BYTES = 128 * 2 ** 20;

/** Reads little-endian values of an open file one after the other, and never past its end. */
export class GgufCursor {
  private chunk: Buffer = Buffer.alloc(0);
  /** Where the chunk is in the file, and the next value in the chunk. */
  private start = 0;
  private at = 0;
  /** Array values read so far; the reader, which limits them, maintains the count. */
  values = 0;

  constructor(
    private readonly file: number,
    readonly size: number,
    private readonly path: string,
  ) {}

  get offset(): number {
    return this.start + this.at;
  }

  get left(): number {
    return this.size - this.offset;
  }

  uint8(): number {
    return this.take(1).readUInt8(this.at - 1);
  }

  int8(): number {
    return this.take(1).readInt8(this.at - 1);
  }

  uint16(): number {
    return this.take(2).readUInt16LE(this.at - 2);
  }

  int16(): number {
    return this.take(2).readInt16LE(this.at - 2);
  }

  uint32(): number {
    return this.take(4).readUInt32LE(this.at - 4);
  }

  int32(): number {
    return this.take(4).readInt32LE(this.at - 4);
  }

  float32(): number {
    return this.take(4).readFloatLE(this.at - 4);
  }

  float64(): number {
    return this.take(8).readDoubleLE(this.at - 8);
  }

  uint64(): number | bigint {
    return exact(this.take(8).readBigUInt64LE(this.at - 8));
  }

  int64(): number | bigint {
    return exact(this.take(8).readBigInt64LE(this.at - 8));
  }

  string(): string {
    const length = this.count("a string", 1, MAX_STRING_BYTES);
    return this.take(length).toString("utf8", this.at - length, this.at);
  }

  /** A count of `things`, of at least `bytes` each: a count too large for the rest of the file is rejected. */
  count(things: string, bytes: number, most = Infinity): number {
    const before = this.offset;
    const count = Number(this.uint64());
    if (count > most) throw this.damaged(`at byte ${before} it gives ${things} a length of ${count}`);
    if (count * bytes > this.left) throw this.cutShort();
    return count;
  }

  damaged(how: string): KvspliceError {
    return new KvspliceError("bad_model", `${this.path} is damaged: ${how}. Download or convert it again.`);
  }

  cutShort(): KvspliceError {
    return new KvspliceError(
      "bad_model",
      `${this.path} is cut short: it ends after ${this.size} bytes, within its header. Download or copy it again.`,
    );
  }

  /** Skips the next bytes, and returns the chunk that contains them: they end at `at`. */
  private take(length: number): Buffer {
    if (this.at + length > this.chunk.length) {
      if (length > this.left) throw this.cutShort();
      this.start = this.offset;
      this.at = 0;
      const bytes = readFully(this.file, this.start, Math.min(Math.max(length, CHUNK_BYTES), this.left));
      if (!bytes) throw this.cutShort();
      this.chunk = Buffer.from(bytes.buffer);
    }
    this.at += length;
    return this.chunk;
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
