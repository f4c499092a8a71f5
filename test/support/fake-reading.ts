import type { Tokenizer } from "../../plan/index.js";

/** Completes a fake that encodes and decodes to a tokenizer, which reads texts at once and adds no begin or end tokens. */
export function withReading(fake: Pick<Tokenizer, "encode" | "decode">): Tokenizer {
  return {
    ...fake,
    size: 0,
    bytesOf: (id) => new TextEncoder().encode(fake.decode([id])),
    read(text, options) {
      const ids = fake.encode(text, options);
      let end = 0;
      return { ids, ends: ids.map((id) => (end += fake.decode([id]).length)), advance: () => false };
    },
    begin: [],
    end: [],
  };
}
