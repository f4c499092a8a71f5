import { buffer } from "node:stream/consumers";

import { fromBufferPromise, type Entry, type ZipFile } from "yauzl";

import { Unloadable } from "./loader.js";

/** An office document has some hundred parts, and a book of many pictures some thousand. */
const MAX_ENTRIES = 20_000;

/** Deflate makes up to a thousand bytes of one: a small file may claim more memory than there is (a "zip bomb"). */
const MAX_UNPACKED_BYTES = 512 * 2 ** 20;

/**
 * The parts of a ZIP archive (APPNOTE.TXT), as DOCX, XLSX, PPTX and EPUB are. What they take when unpacked is bounded by
 * what the archive says of them, and a part that unpacks to another size than it says is an error.
 */
export class Archive {
  private constructor(
    private readonly zip: ZipFile,
    private readonly entries: ReadonlyMap<string, Entry>,
  ) {}

  /** @throws Unloadable for a file that is not a ZIP archive, and one beyond the bounds */
  static async open(bytes: Uint8Array): Promise<Archive> {
    const entries = new Map<string, Entry>();
    try {
      const zip = await fromBufferPromise(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), { lazyEntries: true, autoClose: false });
      if (zip.entryCount > MAX_ENTRIES) throw new Unloadable(`It has ${zip.entryCount} parts, more than ${MAX_ENTRIES}; save it again from its source.`);
      let unpacked = 0;
      for await (const entry of zip.eachEntry()) {
        unpacked += entry.uncompressedSize;
        if (unpacked > MAX_UNPACKED_BYTES) throw new Unloadable(`It unpacks to more than ${MAX_UNPACKED_BYTES / 2 ** 20} MB; leave it out, or split it.`);
        entries.set(entry.fileName, entry);
      }
      return new Archive(zip, entries);
    } catch (error) {
      if (error instanceof Unloadable) throw error;
      throw new Unloadable(`It is not a whole file of its kind (${(error as Error).message}); save it again from its source.`);
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
      throw new Unloadable(`Its part ${name} cannot be unpacked (${(error as Error).message}); save it again from its source.`);
    }
  }

  async text(name: string): Promise<string | undefined> {
    return (await this.read(name))?.toString("utf8");
  }

  /** Unpacks every part, one after the other, for a reader that would itself believe what the archive says. */
  async check(): Promise<void> {
    for (const name of this.names) await this.read(name);
  }
}
