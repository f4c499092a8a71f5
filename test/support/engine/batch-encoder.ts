import { type Batch, BatchHost } from "../../../engine/backend/webgpu/batch-host.js";
import { BatchSession, type BatchSessionOptions } from "../../../engine/backend/webgpu/batch-session.js";
import type { Block } from "../../../engine/kv/block.js";

/** Both parts of encoding on a device, in the current thread. */
export type BatchEncoder = { encode(batch: Batch): Promise<Block[]>; close(): Promise<void> };

export async function openBatchEncoder(options: BatchSessionOptions): Promise<BatchEncoder> {
  const session = await BatchSession.open(options);
  const host = new BatchHost(options.spec, options.file, session.graph);
  return {
    encode: async (batch) => host.pack(batch, await session.run(host.prepare(batch))),
    close: () => session.close(),
  };
}
