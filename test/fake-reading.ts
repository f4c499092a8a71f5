import type { Tokenizer } from "../plan/index.js";

/** A fake that encodes and decodes as a whole tokenizer: its texts are read at once, and nothing frames them. */
export function withReading(fake: Pick<Tokenizer, "encode" | "decode">): Tokenizer {
  return {
    ...fake,
    read(text, options) {
      const ids = fake.encode(text, options);
      let end = 0;
      return { ids, ends: ids.map((id) => (end += fake.decode([id]).length)), advance: () => false };
    },
    begin: [],
    end: [],
  };
}
