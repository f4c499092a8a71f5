import { expect, test } from "vitest";
import { loadTokenizer } from "../../engine/index.js";
import { logprobOf } from "../../server/logprobs.js";

test("tokens that are parts of a character have its bytes, which together make the character", async () => {
  const { tokenizer } = await loadTokenizer();
  const told = tokenizer
    .encode("a 🜁")
    .map((id) => logprobOf({ id, text: "", logprob: -1, top: [{ id, text: "", logprob: -1 }] }, tokenizer));
  expect(told.length).toBeGreaterThan(3);
  expect(told[0]).toEqual({ token: "a", logprob: -1, bytes: [0x61], top_logprobs: [{ token: "a", logprob: -1, bytes: [0x61] }] });
  expect(Buffer.from(told.flatMap(({ bytes }) => bytes)).toString()).toBe("a 🜁");
  const parts = told.filter(({ token }) => token.includes("\\x"));
  expect(parts.length).toBeGreaterThan(1);
  for (const { token, bytes } of parts)
    expect(token.replace(/^ /, "\\x20")).toBe(bytes.map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join(""));
});
