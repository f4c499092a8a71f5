import { closeSync, fsyncSync, openSync, readSync } from "node:fs";
import { writeFully } from "../../../storage/index.js";

/** ONNX Runtime maps external data from the file where its offset is a multiple of this; kernels read unaligned weights a quarter slower. */
const ALIGNMENT = 4096;

const COPY_BYTES = 1 << 22;

/** A file of weights while it is written, one behind the other. */
export class WeightsFile {
  private readonly file: number;
  private end = 0;

  constructor(path: string) {
    this.file = openSync(path, "w+");
  }

  get size(): number {
    return this.end;
  }

  /** Where the bytes begin. */
  append(values: Float32Array | Uint8Array): number {
    const offset = this.end;
    writeFully(this.file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
    this.end = aligned(offset + values.byteLength);
    return offset;
  }

  /** Appends a part of another open file. */
  copy(source: number, from: number, length: number): number {
    const offset = this.end;
    const buffer = Buffer.allocUnsafe(Math.min(COPY_BYTES, length));
    for (let done = 0; done < length; ) {
      const read = readSync(source, buffer, 0, Math.min(buffer.length, length - done), from + done);
      if (read === 0) throw new Error("The weights that ONNX Runtime saved end early.");
      writeFully(this.file, buffer.subarray(0, read), offset + done);
      done += read;
    }
    this.end = aligned(offset + length);
    return offset;
  }

  /** Whatever comes next is written over what was appended from here on. */
  cut(size: number): void {
    this.end = size;
  }

  sync(): void {
    fsyncSync(this.file);
  }

  close(): void {
    closeSync(this.file);
  }
}

export function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
}
