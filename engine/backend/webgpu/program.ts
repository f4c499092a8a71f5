import { answer, moved } from "../../../runtime/thread.js";
import { arraysOf, type Block } from "../../kv/block.js";
import { openModelFile } from "../../model/files/open.js";
import { BatchEncoder, type ComputedBatch, type PreparedBatch } from "./batch-encoder.js";
import type { DeviceCalls, Numbered, NumberedPart } from "./calls.js";
import { type DeviceBlock, type DevicePart, type DeviceRows, PromptPasses } from "./prompt-passes.js";
import type { DeviceGraphOptions } from "./session.js";

// The program of a device's thread: its sessions, prompts and blocks are here.
let options: DeviceGraphOptions;
let encoder: BatchEncoder;
let passes: PromptPasses;
const prepared = new Map<Numbered, PreparedBatch>();
const computed = new Map<Numbered, ComputedBatch>();
const prompts = new Map<Numbered, DeviceRows>();
const blocks = new Map<Numbered, DeviceBlock>();

const bytesOf = (block: Block) => arraysOf(block).map(({ buffer }) => buffer as ArrayBuffer);

const partOf = ({ prompt, ...part }: NumberedPart): DevicePart => ({ ...part, cache: prompts.get(prompt)! });

const tell = answer<DeviceCalls>({
  async open({ path, quantize, adapters, ...given }) {
    options = { ...given, adapters: adapters.prompts, file: openModelFile(path, { quantize }), onProgress: tell };
    encoder = await BatchEncoder.open({ ...options, ...given, adapters: adapters.blocks });
    return encoder.room;
  },
  prepare({ number, items, precision }) {
    prepared.set(number, encoder.prepare(items, precision));
  },
  async compute(number) {
    const batch = prepared.get(number)!;
    prepared.delete(number);
    const start = performance.now();
    computed.set(number, await encoder.compute(batch));
    return performance.now() - start;
  },
  async pack(number) {
    const batch = computed.get(number)!;
    computed.delete(number);
    const made = encoder.pack(batch);
    return moved(made, made.flatMap(bytesOf));
  },
  async answer() {
    passes = await PromptPasses.open(options);
  },
  async reserve({ prompt, rows }) {
    prompts.set(prompt, await passes.grown(prompts.get(prompt) ?? passes.empty(), rows));
  },
  async upload({ number, block }) {
    blocks.set(number, await passes.upload(block));
  },
  drop(number) {
    const block = blocks.get(number);
    if (block) passes.drop(block);
    blocks.delete(number);
  },
  async splice({ prompt, splices }) {
    await passes.splice(
      prompts.get(prompt)!,
      splices.map((each) => ({ ...each, block: blocks.get(each.block)! })),
    );
  },
  async widen() {
    await passes.widen();
  },
  async run(parts) {
    const logits = await passes.run(parts.map(partOf));
    return moved(
      logits,
      logits.map(({ buffer }) => buffer as ArrayBuffer),
    );
  },
  async look({ part, asks }) {
    const looks = await passes.look(partOf(part), asks);
    return moved(looks, [looks.buffer as ArrayBuffer]);
  },
  async extract({ prompt, from, to, precision }) {
    const block = await passes.extract(prompts.get(prompt)!, from, to, precision);
    return moved(block, bytesOf(block));
  },
  truncate({ prompt, length }) {
    const rows = prompts.get(prompt);
    if (rows) rows.length = Math.min(rows.length, length);
  },
  free(prompt) {
    const rows = prompts.get(prompt);
    if (rows) passes.free(rows);
    prompts.delete(prompt);
  },
  async close() {
    for (const rows of prompts.values()) passes.free(rows);
    for (const block of blocks.values()) passes.drop(block);
    await passes?.close();
    await encoder.close();
    options.file.close();
  },
});
