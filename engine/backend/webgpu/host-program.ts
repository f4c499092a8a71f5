import { answer, memoryOf, moved } from "../../../runtime/thread.js";
import { arraysOf } from "../../kv/block.js";
import { openModelFile } from "../../model/files/open.js";
import { BatchHost } from "./batch-host.js";
import type { HostCalls } from "./calls.js";
import { dataOf, memoryOfTensors } from "./tensor-data.js";

// The program of the thread next to a device's: it prepares the next pass and packs the last one's blocks while the device computes.
let host: BatchHost;

answer<HostCalls>({
  open({ path, quantize, spec, graph }) {
    host = new BatchHost(spec, openModelFile(path, { quantize }), graph);
  },
  prepare(batch) {
    const { feeds, wanted } = host.prepare(batch);
    const data = dataOf(feeds);
    return moved({ feeds: data, wanted }, memoryOfTensors(data));
  },
  pack({ batch, results }) {
    const blocks = host.pack(batch, results);
    return moved(
      blocks,
      blocks.flatMap((block) => memoryOf(arraysOf(block))),
    );
  },
});
