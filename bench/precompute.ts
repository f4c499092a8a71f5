/**
 * What precomputing costs next to the model's passes alone. Documents of one chunk each are read, split, embedded, encoded
 * and stored; then the same chunks are encoded once more, and kept nowhere. With `--free`, passes and
 * vectors cost nothing, 64 blocks at once: the limit of all else. With `--device`, vectors cost nothing, and passes over documents of
 * 30 to 160 words take the time that an H200 takes with a 1.5B model, in a thread that computes nothing: how well a fast device is kept
 * busy. Without FILE, it is the bundled model.
 *
 *     npx tsx bench/precompute.ts [FILE.gguf] [--chunks 200] [--encoding w8a8] [--files 10] [--free] [--device]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { MOST_TOKENS } from "../engine/backend/webgpu/batch.js";
import type { DeviceThreadOptions, EncoderCalls, HostCalls } from "../engine/backend/webgpu/calls.js";
import { DeviceEncoder, type EncoderThreads } from "../engine/backend/webgpu/device-encoder.js";
import { type BlockSource, ENCODINGS, type Encoding, loadModel, type Model, openBlockStore } from "../engine/index.js";
import type { Block } from "../engine/kv/block.js";
import { readSpec } from "../engine/model/arch/index.js";
import { openModelFile } from "../engine/model/files/open.js";
import { defaultModelPath } from "../engine/model/language.js";
import { encodeHere } from "../rag/corpus/block-encoder.js";
import { type Embedder, openCorpus } from "../rag/index.js";
import { Thread } from "../runtime/thread.js";
import { corpusWords } from "./compare/workloads.js";

/** Words of a document: one chunk, of some 150 tokens with its title. */
const WORDS = 110;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    chunks: { type: "string", default: "200" },
    encoding: { type: "string", default: "exact" },
    files: { type: "string", default: "10" },
    free: { type: "boolean", default: false },
    device: { type: "boolean", default: false },
  },
});
const [count, files] = [Number(values.chunks), Number(values.files)];
const encoding = ENCODINGS.find((each) => each === values.encoding) as Encoding;

/** The model, with blocks that come from elsewhere. */
function withBlocksFrom(model: Model, atOnce: number, encode: (tokens: readonly number[]) => Promise<Block>): Model {
  return new Proxy(model, {
    get(target, name) {
      if (name === "encode") return ({ tokens }: BlockSource) => encode(tokens);
      if (name === "encodesAtOnce") return atOnce;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** With passes that take no time: each block is that of another text. */
async function freeOf(model: Model): Promise<Model> {
  const block = await model.encode({ tokens: Array.from({ length: 130 }, (_, i) => 100 + i) });
  return withBlocksFrom(model, 64, async () => block);
}

/** With passes of a simulated device, and what is known of them. */
async function onDevice(model: Model, path: string) {
  const spec = readSpec(openModelFile(path));
  const device = new Thread<EncoderCalls>(new URL("./simulate/device.js", import.meta.url), "simulating a device");
  const host = new Thread<HostCalls>(new URL("../engine/backend/webgpu/host-program.js", import.meta.url), "preparing passes");
  const { graph } = await device.ask("open", { spec } as DeviceThreadOptions);
  await host.ask("open", { path, quantize: undefined, spec, graph });
  const told = { tokens: 0, passes: 0, ms: 0, began: Infinity, ended: 0 };
  const counted: EncoderThreads["device"] = {
    ask(name, given, moved) {
      const answer = device.ask(name, given, moved);
      told.began = Math.min(told.began, performance.now());
      if (name === "encode")
        void (answer as ReturnType<EncoderCalls["encode"]>).then(({ ms }) => {
          told.passes++;
          told.ms += ms;
          told.ended = performance.now();
        });
      return answer;
    },
    close: () => device.close(),
  };
  const encoder = new DeviceEncoder({ device: counted, host }, { mostTokens: MOST_TOKENS, onNotice: console.error });
  const options = { precision: "int8", signal: new AbortController().signal, background: true } as const;
  const encode = async (tokens: readonly number[]) => {
    told.tokens += tokens.length;
    return (await encoder.encode({ tokens, positions: [...tokens.keys()], from: 0 }, options))!;
  };
  return { model: withBlocksFrom(model, encoder.atOnce, encode), told, close: () => encoder.close() };
}

const FREE_EMBEDDER: Embedder = {
  name: "none",
  id: "none",
  dimensions: 384,
  embed: async (texts) => texts.map(() => new Float32Array(384).fill(384 ** -0.5)),
  countTokens: async () => 0,
  close: async () => undefined,
};

async function timed(work: () => Promise<unknown>): Promise<{ readonly cpu_s: number; readonly wall_s: number }> {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { cpu_s: (user + system) / 1e6, wall_s: (performance.now() - start) / 1000 };
}

const dir = mkdtempSync(join(tmpdir(), "kvsplice-precompute-"));
try {
  const words = corpusWords();
  const texts = Array.from({ length: count }, (_, i) =>
    Array.from(
      { length: values.device ? 30 + ((61 * i) % 131) : WORDS },
      (_, word) => words[(i * 97 + word * (1 + (i % 7))) % words.length],
    ).join(" "),
  );
  const documents = join(dir, "documents");
  await mkdir(documents);
  for (let file = 0; file < files; file++) {
    const own = texts.filter((_, i) => i % files === file);
    await writeFile(
      join(documents, `${file}.jsonl`),
      own.map((text, i) => JSON.stringify({ title: `Article ${file}.${i}`, text })).join("\n"),
    );
  }
  const path = positionals[0] ?? (await defaultModelPath());
  const loaded = await loadModel({ path, encoding });
  const device = values.device ? await onDevice(loaded, path) : undefined;
  const model = device?.model ?? (values.free ? await freeOf(loaded) : loaded);
  await model.encode({ tokens: [1, 2, 3] }); // its graphs are built
  const store = openBlockStore({ disk: { path: join(dir, "kv") } });
  const corpus = await openCorpus(join(dir, "kv"), {
    model,
    store,
    create: true,
    ...((values.free || device) && { embedder: FREE_EMBEDDER }),
  });
  await writeFile(join(dir, "first.txt"), "One sentence, so that the embedder is loaded.");
  await corpus.precompute([join(dir, "first.txt")]);
  const here = encodeHere(model, store);
  const sources: BlockSource[] = [];
  const whole = await timed(() =>
    corpus.precompute([documents], {
      encoder: {
        atOnce: here.atOnce,
        encodeMissing(key, source, options) {
          sources.push(source);
          return here.encodeMissing(key, source, options);
        },
      },
    }),
  );
  if (device) {
    const { tokens, passes, ms, began, ended } = device.told;
    console.log(`${sources.length} chunks, ${tokens} tokens, ${(tokens / whole.wall_s).toFixed(0)} a second`);
    console.log(`In the device's passes alone: ${((1000 * tokens) / ms).toFixed(0)} a second, ${(tokens / passes).toFixed(0)} a pass`);
    console.log(`From its first pass to its last, the device computes ${((100 * ms) / (ended - began)).toFixed(0)} % of the time.`);
  } else if (values.free) {
    console.log(`${sources.length} chunks, ${(sources.length / whole.wall_s).toFixed(0)} a second`);
    console.log(
      `A chunk: ${((1000 * whole.wall_s) / sources.length).toFixed(1)} ms, ${((1000 * whole.cpu_s) / sources.length).toFixed(1)} of the processor`,
    );
  } else {
    const passes = await timed(async () => {
      for (const source of sources) await model.encode(source, { background: true });
    });
    const tokens = sources.reduce((sum, source) => sum + source.tokens.length, 0);
    console.log(`${sources.length} chunks, ${tokens} tokens, ${encoding}\n`);
    console.log("| | processor s | by the clock, s |\n|---|---|---|");
    console.log(`| precompute | ${whole.cpu_s.toFixed(1)} | ${whole.wall_s.toFixed(1)} |`);
    console.log(`| the passes alone | ${passes.cpu_s.toFixed(1)} | ${passes.wall_s.toFixed(1)} |`);
    console.log(`| ratio | ${(whole.cpu_s / passes.cpu_s).toFixed(2)} | ${(whole.wall_s / passes.wall_s).toFixed(2)} |`);
  }
  await device?.close();
  await corpus.close();
  await store.close();
  await model.close();
} finally {
  rmSync(dir, { recursive: true, force: true });
}
