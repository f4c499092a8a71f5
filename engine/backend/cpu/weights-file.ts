import { closeSync, fsyncSync, openSync, readSync } from "node:fs";
import { writeFully } from "../../../storage/index.js";
import type { WeightValues } from "./onnx.js";

/** ONNX Runtime maps external data from the file if its offset is a multiple of this; kernels read unaligned weights 25 % slower. */
const ALIGNMENT = 4096;

const COPY_BYTES = 1 << 22;

/** A weights file being written, one weight after the other. */
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
  append(values: WeightValues): number {
    const offset = this.end;
    writeFully(this.file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
    this.end = aligned(offset + values.byteLength);
    return offset;
  }

  /** Appends part of another open file. */
  copy(source: number, from: number, length: number): number {
    const offset = this.end;
    const buffer = Buffer.allocUnsafe(Math.min(COPY_BYTES, length));
    for (let done = 0; done < length; ) {
      const read = readSync(source, buffer, 0, Math.min(buffer.length, length - done), from + done);
      if (read === 0) throw new Error("The weights saved by ONNX Runtime end early.");
      writeFully(this.file, buffer.subarray(0, read), offset + done);
      done += read;
    }
    this.end = aligned(offset + length);
    return offset;
  }

  /** Discards what was appended after `size`: it is overwritten next. */
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
