import { createHash } from "node:crypto";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gguf } from "@huggingface/gguf";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { openModelFile, readMetadata } from "../../../engine/model/files/open.js";
import { KvspliceError } from "../../../plan/index.js";
import { counting, F32, type GgufTensor, type GgufValue, text, u32, u64, writeGguf } from "../../support/engine/files/write-gguf.js";

const CARRIED = fileURLToPath(new URL("../../../models/kvsplice-135m.gguf", import.meta.url));
const LLAMA: Record<string, GgufValue> = { "general.architecture": { string: "llama" } };

const folder = mkdtempSync(join(tmpdir(), "kvsplice-gguf-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function written(bytes: Uint8Array, name = "model.gguf"): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** The error message when a file is refused. */
function refusal(path: string): string {
  try {
    openModelFile(path).close();
  } catch (error) {
    expect(error).toBeInstanceOf(KvspliceError);
    expect(error).toMatchObject({ code: "bad_model" });
    return (error as KvspliceError).message;
  }
  throw new Error(`${path} was opened`);
}

test("reads the same as @huggingface/gguf", async () => {
  const reference = await gguf(CARRIED, { allowLocalFile: true });
  const file = openModelFile(CARRIED);
  const { version: _, tensor_count, kv_count, ...metadata } = reference.metadata as Record<string, unknown>;
  expect({ ...file.metadata }).toEqual(metadata);
  expect([...file.names()]).toEqual(reference.tensorInfos.map(({ name }) => name));
  expect([...file.names()].length).toBe(Number(tensor_count));
  expect(Object.keys(file.metadata).length).toBe(Number(kv_count));
  for (const { name, shape } of reference.tensorInfos) expect(file.info(name).shape).toEqual(shape.map(Number).reverse());
  file.close();
});

test("reads a value of each type", () => {
  const path = written(
    writeGguf(
      {
        ...LLAMA,
        a: { uint8: 200 },
        b: { uint16: 60_000 },
        c: { uint32: 4_000_000_000 },
        d: { int32: -5 },
        e: { float32: 0.5 },
        f: { bool: true },
        g: { string: "Füße" },
        h: { uint64: 8n },
        i: { int64: -8n },
        j: { uint64: 2n ** 63n },
        k: { float64: 1e-5 },
        l: { strings: ["", "a", "語"] },
        m: { int32s: [1, -2] },
        n: { float32s: [] },
      },
      [counting("x", 2, 3)],
    ),
  );
  expect({ ...readMetadata(path) }).toEqual({
    "general.architecture": "llama",
    a: 200,
    b: 60_000,
    c: 4_000_000_000,
    d: -5,
    e: 0.5,
    f: true,
    g: "Füße",
    h: 8,
    i: -8,
    j: 2n ** 63n,
    k: 1e-5,
    l: ["", "a", "語"],
    m: [1, -2],
    n: [],
  });
});

test("reads whole strings wherever the reader's chunks end, even in a header of several megabytes", () => {
  const strings = Array.from({ length: 300_000 }, (_, i) => `token-${i}`);
  const long = "ä".repeat(1_500_000);
  const path = written(writeGguf({ ...LLAMA, strings: { strings }, long: { string: long }, after: { uint32: 7 } }, [counting("x", 1, 1)]));
  const metadata = readMetadata(path);
  expect(metadata["strings"]).toEqual(strings);
  expect(metadata["long"]).toBe(long);
  expect(metadata["after"]).toBe(7);
});

test("tensors and their rows are exactly the file's bytes", () => {
  const file = openModelFile(written(writeGguf(LLAMA, [counting("a", 3), counting("b", 4, 5)])));
  expect(file.tensor("b")).toMatchObject({ name: "b", type: "F32", shape: [4, 5] });
  expect([...new Float32Array(file.tensor("a").bytes.buffer)]).toEqual([0, 1, 2]);
  expect(file.rows("b", 2, 1)).toMatchObject({ shape: [1, 5] });
  expect([...new Float32Array(file.rows("b", 2, 1).bytes.buffer)]).toEqual([10, 11, 12, 13, 14]);
  expect(file.has("c")).toBe(false);
  expect(() => file.tensor("c")).toThrow("has no tensor c");
  file.close();
});

test("reads tensors beyond 4 GiB", () => {
  const path = written(writeGguf(LLAMA, [counting("far", 2, 2)]));
  const bytes = readFileSync(path);
  const [header, data] = [bytes.subarray(0, -32), bytes.subarray(-32)];
  const far = 5 * 2 ** 30;
  header.writeBigUInt64LE(BigInt(far), header.indexOf("far") + 3 + 4 + 2 * 8 + 4);
  const file = openSync(path, "w");
  writeSync(file, header);
  writeSync(file, data, 0, data.length, header.length + far);
  closeSync(file); // a sparse file: it takes a page or two
  const model = openModelFile(path);
  expect([...new Float32Array(model.tensor("far").bytes.buffer)]).toEqual([0, 1, 2, 3]);
  model.close();
});

test("the content hash is the file's hash", async () => {
  const path = written(writeGguf(LLAMA, [counting("x", 8)]));
  const model = openModelFile(path);
  expect(await model.contentHash()).toBe(createHash("sha256").update(readFileSync(path)).digest("hex"));
  model.close();
});

const part = (number: number, count: number, tensors: readonly GgufTensor[], metadata: Record<string, GgufValue> = {}) =>
  writeGguf(
    { ...metadata, "split.no": { uint16: number }, "split.count": { uint16: count }, "split.tensors.count": { int32: 3 } },
    tensors,
  );

function writeSplit(): readonly string[] {
  return [
    written(part(0, 3, [counting("a", 2)], { ...LLAMA, "llama.block_count": { uint32: 1 } }), "m-00001-of-00003.gguf"),
    written(part(1, 3, [counting("b", 3)]), "m-00002-of-00003.gguf"),
    written(part(2, 3, [counting("c", 4)]), "m-00003-of-00003.gguf"),
  ];
}

test("a split file is opened as one model, whichever part is named", async () => {
  const paths = writeSplit();
  const hashes = new Set<string>();
  for (const path of paths) {
    const file = openModelFile(path);
    expect([...file.names()]).toEqual(["a", "b", "c"]);
    expect([...new Float32Array(file.tensor("c").bytes.buffer)]).toEqual([0, 1, 2, 3]);
    expect(file.metadata["llama.block_count"]).toBe(1);
    hashes.add(await file.contentHash());
    file.close();
  }
  expect(hashes.size).toBe(1);
});

test("a split file with a missing or wrong part is refused, with the reason", () => {
  const [first, second, third] = writeSplit() as [string, string, string];
  rmSync(second);
  expect(refusal(third)).toContain("m-00002-of-00003.gguf is missing");
  writeFileSync(second, part(2, 3, [counting("b", 3)]));
  expect(refusal(first)).toContain("says that it is part 3 of 3, but its name differs");
  writeFileSync(second, part(1, 3, []));
  expect(refusal(first)).toContain("2 of 3 tensors");
  writeFileSync(second, part(1, 3, [counting("a", 3)]));
  expect(refusal(first)).toContain("tensor a appears twice");
  renameSync(first, join(folder, "renamed.gguf"));
  expect(refusal(join(folder, "renamed.gguf"))).toContain("part 1 of 3, but its name differs");
});

test.each<[what: string, bytes: Uint8Array, cause: string]>([
  ["an empty file", Buffer.alloc(0), "has only 0 bytes"],
  ["a web page", Buffer.from("<!DOCTYPE html><title>404</title>"), "it is a web page"],
  ["a Git LFS pointer", Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"],
  ["a PyTorch checkpoint", Buffer.from("PK\x03\x04..."), "PyTorch"],
  ["zeros", Buffer.alloc(100), "unfinished download"],
  ["llama.cpp's format before GGUF", Buffer.from("tjgg0000"), "older than GGUF"],
  ["another file", Buffer.from("hello world"), "does not begin with GGUF's magic number"],
  ["the first version", Buffer.concat([Buffer.from("GGUF"), u32(1), Buffer.alloc(16)]), "is GGUF version 1"],
  ["a later version", Buffer.concat([Buffer.from("GGUF"), u32(4), Buffer.alloc(16)]), "version 4"],
  ["big-endian numbers", Buffer.concat([Buffer.from("GGUF"), Buffer.of(0, 0, 0, 3), Buffer.alloc(16)]), "big-endian"],
  ["no tensors", writeGguf({ ...LLAMA, "tokenizer.ggml.model": { string: "gpt2" } }), "a vocabulary without a model"],
  ["no architecture", writeGguf({}, [counting("x", 1)]), "without general.architecture"],
  ["a projector", writeGguf({ "general.architecture": { string: "clip" } }, [counting("x", 1)]), "projector (mmproj)"],
  [
    "a projector by type",
    writeGguf({ "general.architecture": { string: "x" }, "general.type": { string: "mmproj" } }, [counting("x", 1)]),
    "projector (mmproj)",
  ],
  ["an adapter", writeGguf({ ...LLAMA, "general.type": { string: "adapter" } }, [counting("x", 1)]), "LoRA adapter"],
  ["an importance matrix", writeGguf({ ...LLAMA, "general.type": { string: "imatrix" } }, [counting("x", 1)]), "importance matrix"],
  ["BERT", writeGguf({ "general.architecture": { string: "bert" } }, [counting("x", 1)]), "embedding or ranking model (architecture bert)"],
  [
    "Qwen 3 Embedding",
    writeGguf({ "general.architecture": { string: "qwen3" }, "qwen3.pooling_type": { uint32: 3 } }, [counting("x", 1)]),
    "qwen3.pooling_type is 3",
  ],
  [
    "attention in both directions",
    writeGguf({ ...LLAMA, "llama.attention.causal": { bool: false } }, [counting("x", 1)]),
    "llama.attention.causal is false",
  ],
  ["an unknown tensor type", writeGguf(LLAMA, [{ name: "x", type: 99, shape: [1], bytes: Buffer.alloc(4) }]), "has type 99"],
  [
    "rows that are not whole blocks",
    writeGguf(LLAMA, [{ name: "x", type: 2, shape: [31], bytes: Buffer.alloc(18) }]),
    "whole blocks of 32",
  ],
  ["five dimensions", writeGguf(LLAMA, [{ name: "x", type: F32, shape: [1, 1, 1, 1, 1], bytes: Buffer.alloc(4) }]), "5 dimensions"],
  [
    "a key twice",
    Buffer.concat([
      Buffer.from("GGUF"),
      u32(3),
      u64(0),
      u64(2),
      text("a"),
      u32(0),
      Buffer.of(1),
      text("a"),
      u32(0),
      Buffer.of(1),
      Buffer.alloc(9),
    ]),
    "the key a twice",
  ],
  ["an alignment of 3", writeGguf({ ...LLAMA, "general.alignment": { uint32: 3 } }, [counting("x", 1)]), "not a power of two"],
  ["arrays in arrays in arrays", nested(3), "3 deep"],
])("%s is refused, and the error says what it is", (_, bytes, cause) => {
  expect(refusal(written(bytes))).toContain(cause);
});

function nested(depth: number): Buffer {
  const arrays = Array.from({ length: depth }, () => Buffer.concat([u32(9), u64(1)]));
  return Buffer.concat([
    Buffer.from("GGUF"),
    u32(3),
    u64(0),
    u64(1),
    text("a"),
    u32(9),
    ...arrays.slice(1),
    u32(0),
    u64(0),
    Buffer.alloc(64),
  ]);
}

test("a path without a file is refused", () => {
  expect(refusal(join(folder, "none.gguf"))).toContain("does not exist");
});

const HUGE = [2n ** 31n, 2n ** 32n, 2n ** 40n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n] as const;

test.each<[where: string, bytes: (size: bigint) => Buffer]>([
  ["the number of tensors", (size) => Buffer.concat([Buffer.from("GGUF"), u32(3), u64(size), u64(0), Buffer.alloc(1000)])],
  ["the number of keys", (size) => Buffer.concat([Buffer.from("GGUF"), u32(3), u64(0), u64(size), Buffer.alloc(1000)])],
  ["a key's length", (size) => Buffer.concat([Buffer.from("GGUF"), u32(3), u64(0), u64(1), u64(size), Buffer.alloc(1000)])],
  [
    "a string's length",
    (size) => Buffer.concat([Buffer.from("GGUF"), u32(3), u64(0), u64(1), text("a"), u32(8), u64(size), Buffer.alloc(1000)]),
  ],
  [
    "an array's length",
    (size) => Buffer.concat([Buffer.from("GGUF"), u32(3), u64(0), u64(1), text("a"), u32(9), u32(0), u64(size), Buffer.alloc(1000)]),
  ],
  [
    "a tensor's dimension",
    (size) =>
      Buffer.concat([
        Buffer.from("GGUF"),
        u32(3),
        u64(1),
        u64(0),
        text("a"),
        u32(2),
        u64(size),
        u64(size),
        u32(0),
        u64(0),
        Buffer.alloc(1000),
      ]),
  ],
  [
    "a tensor's offset",
    (size) =>
      Buffer.concat([Buffer.from("GGUF"), u32(3), u64(1), u64(0), text("a"), u32(1), u64(1), u32(0), u64(size), Buffer.alloc(1000)]),
  ],
])("%s that is impossibly large is refused at once, without taking memory", (_, bytes) => {
  for (const size of HUGE) {
    const path = written(bytes(size));
    const before = process.memoryUsage().rss;
    expect(refusal(path)).toMatch(/is (damaged|cut short)/);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20);
  }
});

test("values that no model needs take limited memory, even if the file contains them", () => {
  // 200 MB of one-byte values would be some 2 GB of numbers.
  const path = written(Buffer.concat([Buffer.from("GGUF"), u32(3), u64(0), u64(1), text("a"), u32(9), u32(0), u64(200_000_000)]));
  truncateSync(path, 200_001_000);
  expect(refusal(path)).toContain("gives an array a length of 200000000");
});

const SMALL = writeGguf(
  {
    ...LLAMA,
    "general.name": { string: "small" },
    "llama.block_count": { uint32: 1 },
    "llama.rope.freq_base": { float32: 10_000 },
    "tokenizer.ggml.tokens": { strings: ["a", "b", "ab"] },
    "tokenizer.ggml.token_type": { int32s: [1, 1, 3] },
  },
  [counting("token_embd.weight", 3, 4), counting("output_norm.weight", 4)],
);

test("a file truncated anywhere is refused as cut short", () => {
  for (let length = 4; length < SMALL.length - 16; length++) {
    expect(refusal(written(SMALL.subarray(0, length))), `${length} bytes`).toContain("cut short");
  }
});

test("a file truncated only in the padding after its last tensor is complete", () => {
  openModelFile(written(SMALL.subarray(0, SMALL.length - 16))).close();
});

test("a file with random bytes in its header either opens or is refused", () => {
  const header = SMALL.length - 96;
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(header - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }), (changes) => {
      const bytes = Buffer.from(SMALL);
      for (const [at, value] of changes) bytes[at] = value;
      const path = written(bytes);
      try {
        const file = openModelFile(path);
        for (const name of file.names()) file.tensor(name);
        file.close();
      } catch (error) {
        expect(error).toBeInstanceOf(KvspliceError);
      }
    }),
    { numRuns: 500 },
  );
});

test("reports a file that becomes shorter while it is open", () => {
  const path = written(SMALL);
  const model = openModelFile(path);
  const file = openSync(path, "r+");
  ftruncateSync(file, 300);
  closeSync(file);
  expect(() => model.tensor("output_norm.weight").bytes).toThrow("became shorter");
  model.close();
});
