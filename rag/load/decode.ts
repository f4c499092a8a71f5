import { UnreadableFileError } from "./loader.js";

/** C0 controls that no text needs: all except tab, line feed, form feed, carriage return and escape. */
const CONTROLS = /[\0-\x08\x0b\x0e-\x1a\x1c-\x1f]/g;

/** A text may contain a few controls by accident; a file with more of them is not text. */
const MOST_CONTROLS = 0.02;

/** In UTF-16, every second byte of ASCII is zero; with other letters in between, still a third. */
const UTF16_ZEROS = 0.3;

/**
 * Decodes a file's bytes: by its byte order mark, or else in the encoding that the file declares, or else as UTF-16 or
 * UTF-8. A few control characters are left out.
 *
 * @throws UnreadableFileError for binary files and other encodings.
 */
export function decodeText(bytes: Uint8Array, declared?: string): string {
  const text = decoded(bytes, declared);
  if (text === undefined) {
    const binary = bytes.includes(0);
    throw new UnreadableFileError(
      binary
        ? "It is a binary file, not text; leave it out, or convert it to text."
        : "It is not UTF-8; convert it, for example with: iconv -f latin1 -t utf-8",
    );
  }
  const plain = text.replace(CONTROLS, "");
  if (text.length - plain.length > Math.max(1, MOST_CONTROLS * text.length)) {
    throw new UnreadableFileError("It is a binary file, not text; leave it out, or convert it to text.");
  }
  return plain;
}

function decoded(bytes: Uint8Array, declared: string | undefined): string | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  // A declaration readable as ASCII cannot be right about UTF-16 (HTML Standard, "determining the character encoding").
  const named = declared === undefined || /^utf-?16/i.test(declared) ? undefined : decodeAs(declared, bytes);
  return named ?? decodeUnmarked(bytes);
}

/** UTF-16 without a mark is recognised by its zeros, which are only at odd or only at even places. */
function decodeUnmarked(bytes: Uint8Array): string | undefined {
  const [even, odd] = zerosOf(bytes);
  const pairs = bytes.length / 2;
  const utf8 = Math.max(even, odd) < UTF16_ZEROS * pairs ? decodeAs("utf-8", bytes) : undefined;
  if (utf8 !== undefined || even + odd === 0) return utf8;
  if (even === 0) return decodeAs("utf-16le", bytes);
  if (odd === 0) return decodeAs("utf-16be", bytes);
  return undefined;
}

function zerosOf(bytes: Uint8Array): [even: number, odd: number] {
  const zeros: [number, number] = [0, 0];
  for (let at = bytes.indexOf(0); at >= 0; at = bytes.indexOf(0, at + 1)) zeros[at % 2]!++;
  return zeros;
}

function decodeAs(encoding: string, bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Whether a file with this beginning is UTF-8 text; the last character may be cut off. */
export function looksLikeText(start: Uint8Array): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(start, { stream: true });
    return !start.includes(0);
  } catch {
    return false;
  }
}
