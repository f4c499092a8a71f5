import { expect, test } from "vitest";
import { kvspliceIn } from "../support/cli/in-process.js";

const bench = (...args: string[]) => kvspliceIn(process.cwd(), ["bench", ...args]);

test("measures a model in each way and prints the results as one object", async () => {
  const { status, stdout } = await bench("--documents", "2", "--tokens", "40", "--answer", "4", "--runs", "1", "--json");
  expect(status).toBe(0);
  const { model, machine, prompt, load, encode, ways, memory_bytes } = JSON.parse(stdout);
  expect(model).toBe("kvsplice-135m");
  expect(machine.threads).toBeGreaterThanOrEqual(1);
  expect(prompt).toMatchObject({ documents: 2, document_tokens: 40 });
  expect(encode.tokens).toBeGreaterThanOrEqual(80);
  expect(ways.map(({ way }: { way: string }) => way)).toEqual(["spliced", "full prefill"]); // this model was trained for splicing
  const [spliced, full] = ways;
  expect(full.computed_tokens).toBe(prompt.tokens);
  expect(spliced.computed_tokens).toBe(prompt.tokens - encode.tokens);
  for (const figure of [load.later_ms, encode.tokens_per_s, spliced.first_token_ms, full.per_token_ms, memory_bytes])
    expect(figure).toBeGreaterThan(0);
});

test.for([
  [["--documents", "0"], /whole number, 1 or more/],
  [["--documents", "1000"], /do not fit into 8192 positions/],
  [["--model", "/nowhere.gguf"], /nowhere\.gguf/],
] as const)("%j is refused", async ([args, message]) => {
  const { status, stderr } = await bench(...args);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n\s+at /);
});
