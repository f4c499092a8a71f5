import { answer, moved } from "../../../runtime/thread.js";
import { arraysOf } from "../../kv/block.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { openModelFile } from "../../model/files/open.js";
import { BatchEncoder } from "./batch-encoder.js";
import type { EncoderCalls } from "./calls.js";

// The program of a device's thread: its session is here.
let file: ModelFile;
let encoder: BatchEncoder;

const tell = answer<EncoderCalls>({
  async open({ path, quantize, ...options }) {
    file = openModelFile(path, { quantize });
    encoder = await BatchEncoder.open({ ...options, file, onProgress: tell });
    return { mostTokens: encoder.mostTokens };
  },
  async encode({ items, precision }) {
    const blocks = await encoder.encode(items, precision);
    return moved(
      blocks,
      blocks.flatMap((block) => arraysOf(block).map(({ buffer }) => buffer as ArrayBuffer)),
    );
  },
  async close() {
    await encoder.close();
    file.close();
  },
});
