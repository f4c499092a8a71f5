import { Unloadable } from "./loader.js";

/**
 * Text of a file's bytes: UTF-8, UTF-16 where a byte order mark says so, or the encoding that the file declares.
 *
 * @throws Unloadable for binary files and other encodings.
 */
export function decodeText(bytes: Uint8Array, declared?: string): string {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  if (bytes.includes(0)) throw new Unloadable("It is a binary file, not text; leave it out, or give it its own extension.");
  const utf8 = decodeAs("utf-8", bytes);
  if (utf8 !== undefined) return utf8;
  const text = declared === undefined ? undefined : decodeAs(declared, bytes);
  if (text !== undefined) return text;
  throw new Unloadable("It is not UTF-8; convert it, for example with: iconv -f latin1 -t utf-8");
}

function decodeAs(encoding: string, bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
