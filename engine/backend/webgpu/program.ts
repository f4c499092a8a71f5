import { answer, memoryOf, moved } from "../../../runtime/thread.js";
import { arraysOf } from "../../kv/block.js";
import { openModelFile } from "../../model/files/open.js";
import { BatchSession } from "./batch-session.js";
import type { DeviceCalls, Numbered, NumberedPart } from "./calls.js";
import { type DeviceBlock, type DevicePart, type DeviceRows, PromptPasses } from "./prompt-passes.js";
import type { DeviceGraphOptions } from "./session.js";
import { tensorsOf } from "./tensor-data.js";

// The program of a device's thread: its sessions, prompts and blocks are here.
let options: DeviceGraphOptions;
let encoder: BatchSession;
let passes: PromptPasses;
const prompts = new Map<Numbered, DeviceRows>();
const blocks = new Map<Numbered, DeviceBlock>();

const partOf = ({ prompt, ...part }: NumberedPart): DevicePart => ({ ...part, cache: prompts.get(prompt)! });

const tell = answer<DeviceCalls>({
  async open({ path, quantize, adapters, ...given }) {
    options = { ...given, adapters: adapters.prompts, file: openModelFile(path, { quantize }), onProgress: tell };
    encoder = await BatchSession.open({ ...options, ...given, adapters: adapters.blocks });
    return { room: encoder.room, graph: encoder.graph };
  },
  async encode({ feeds, wanted }) {
    const start = performance.now();
    const results = await encoder.run({ feeds: tensorsOf(feeds), wanted });
    return moved({ results, ms: performance.now() - start }, memoryOf(Object.values(results)));
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
    return moved(logits, memoryOf(logits));
  },
  async look({ part, asks }) {
    const looks = await passes.look(partOf(part), asks);
    return moved(looks, memoryOf([looks]));
  },
  async extract({ prompt, from, to, precision }) {
    const block = await passes.extract(prompts.get(prompt)!, from, to, precision);
    return moved(block, memoryOf(arraysOf(block)));
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
