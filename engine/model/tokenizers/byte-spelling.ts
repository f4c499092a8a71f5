/** GPT-2's alphabet: a printable character for each byte. Printable bytes are themselves, the others are U+0100 onward. */
const CHARACTER_OF_BYTE: readonly string[] = (() => {
  let others = 0;
  const printsItself = (byte: number) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printsItself(byte) ? byte : 256 + others++));
})();

const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(CHARACTER_OF_BYTE.map((character, byte) => [character, byte]));

const encoder = new TextEncoder();

/** A text's bytes as characters. */
export function spellBytes(text: string): string {
  let spelled = "";
  for (const byte of encoder.encode(text)) spelled += CHARACTER_OF_BYTE[byte]!;
  return spelled;
}

/** The bytes that a token stands for. A character that is not in the alphabet stands for itself. */
export function readBytes(spelled: string): number[] {
  return Array.from(spelled).flatMap((character) => BYTE_OF_CHARACTER.get(character) ?? [...encoder.encode(character)]);
}
