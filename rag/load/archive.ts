import { buffer } from "node:stream/consumers";

import { type Entry, fromBufferPromise, type ZipFile } from "yauzl";

import { UnreadableFileError } from "./loader.js";

/** An office document has some hundred parts, a book with many pictures some thousand. */
const MAX_ENTRIES = 20_000;

/** Deflate expands one byte to up to a thousand: a small file may need more memory than there is (a "zip bomb"). */
const MAX_UNPACKED_BYTES = 512 * 2 ** 20;

/**
 * The parts of a ZIP archive (APPNOTE.TXT), such as DOCX, XLSX, PPTX and EPUB. Their declared unpacked size is limited,
 * and a part that unpacks to a different size is an error.
 */
export class Archive {
  private constructor(
    private readonly zip: ZipFile,
    private readonly entries: ReadonlyMap<string, Entry>,
  ) {}

  /** @throws UnreadableFileError for a file that is not a ZIP archive, or exceeds the limits */
  static async open(bytes: Uint8Array): Promise<Archive> {
    const entries = new Map<string, Entry>();
    try {
      const zip = await fromBufferPromise(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), {
        lazyEntries: true,
        autoClose: false,
      });
      if (zip.entryCount > MAX_ENTRIES)
        throw new UnreadableFileError(`It has ${zip.entryCount} parts, more than ${MAX_ENTRIES}; save it again from its source.`);
      let unpacked = 0;
      for await (const entry of zip.eachEntry()) {
        unpacked += entry.uncompressedSize;
        if (unpacked > MAX_UNPACKED_BYTES)
          throw new UnreadableFileError(`It unpacks to more than ${MAX_UNPACKED_BYTES / 2 ** 20} MiB; leave it out, or split it.`);
        entries.set(entry.fileName, entry);
      }
      return new Archive(zip, entries);
    } catch (error) {
      if (error instanceof UnreadableFileError) throw error;
      throw new UnreadableFileError(`It is not a complete file of its kind (${(error as Error).message}); save it again from its source.`);
    }
  }

  get names(): string[] {
    return [...this.entries.keys()];
  }

  async read(name: string): Promise<Buffer | undefined> {
    const entry = this.entries.get(name);
    if (entry === undefined) return undefined;
    try {
      return await buffer(await this.zip.openReadStreamPromise(entry));
    } catch (error) {
      throw new UnreadableFileError(`Its part ${name} cannot be unpacked (${(error as Error).message}); save it again from its source.`);
    }
  }

  async text(name: string): Promise<string | undefined> {
    return (await this.read(name))?.toString("utf8");
  }

  /** Unpacks every part in turn, for a reader that would itself trust the archive's declared sizes. */
  async check(): Promise<void> {
    for (const name of this.names) await this.read(name);
  }
}
