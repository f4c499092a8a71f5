import { expect, test } from "vitest";
import { nameOf, namesOf } from "../../chat/long-texts.js";

const LONG = "The ferry \u{1f6a2} crosses. ".repeat(10_000);

test("a short text identifies itself, a long one has a unique digest, the same whether computed ahead or when needed", async () => {
  const others = [LONG.slice(1), `${LONG}.`, LONG.replace("ferry", "Ferry"), LONG.replace("\u{1f6a2}", "\ud83d")];
  const names = await namesOf(["short", LONG]);
  expect(names("short")).toBe("short");
  expect(names(LONG)).toEqual({ sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  for (const text of ["short", LONG, ...others]) expect(names(text)).toEqual(nameOf(text));
  expect(new Set([LONG, ...others].map((text) => JSON.stringify(names(text)))).size).toBe(5);
});

test("a digest is computed with turns for others in between, and not for a cancelled request", async () => {
  let turns = 0;
  let next = setImmediate(function turn() {
    turns++;
    next = setImmediate(turn);
  });
  const text = LONG.repeat(100);
  await namesOf([text]);
  clearImmediate(next);
  expect(turns).toBeGreaterThan(1);
  await expect(namesOf([text], AbortSignal.abort())).rejects.toMatchObject({ code: "cancelled" });
});
