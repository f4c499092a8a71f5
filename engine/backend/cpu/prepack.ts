import { createHash } from "node:crypto";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession } from "../../../runtime/index.js";
import { readFully, writeFully } from "../../../storage/index.js";
import { aligned, moveWeights } from "./onnx.js";

/**
 * Rewrites graphs and their one weights file from one folder to another, with the weights also in the layout that this
 * processor's kernels multiply in. A session over them maps that layout from the file, where it would make a copy of
 * its own in memory; sessions and processes then share one.
 *
 * ONNX Runtime compares the hash of what it finds with what it would make, and does without where they differ: such
 * files work on other processors too.
 */
export async function prepackWeights(from: string, to: string, graphs: readonly string[], weightsFile: string): Promise<void> {
  const weights = await open(join(to, weightsFile), "w");
  try {
    const places = new Map<string, number>();
    let end = 0;
    for (const graph of graphs) {
      const saved = await savePrepacked(from, graph, weightsFile);
      const source = openSync(join(saved, weightsFile), "r");
      try {
        // ONNX Runtime writes them one right behind the other; kernels read unaligned weights a quarter slower.
        const moved = moveWeights(await readFile(join(saved, graph)), (offset, length) => {
          const bytes = readFully(source, offset, length);
          if (!bytes) throw new Error("The weights that ONNX Runtime saved end early.");
          const content = createHash("sha1").update(bytes).digest("hex");
          const place = places.get(content) ?? aligned(end);
          if (!places.has(content)) {
            writeFully(weights.fd, bytes, place);
            end = place + length;
            places.set(content, place);
          }
          return place;
        });
        await writeFile(join(to, graph), moved);
      } finally {
        closeSync(source);
        await rm(saved, { recursive: true });
      }
    }
    await weights.sync();
  } finally {
    await weights.close();
  }
}

/** A folder with the graph and its weights as ONNX Runtime saves them. */
async function savePrepacked(from: string, graph: string, weightsFile: string): Promise<string> {
  const folder = join(from, "prepacked");
  await mkdir(folder);
  const session = await InferenceSession.create(join(from, graph), {
    // Whatever depends on the processor is left to the session that will run it.
    graphOptimizationLevel: "extended",
    optimizedModelFilePath: join(folder, graph),
    extra: {
      session: {
        optimized_model_external_initializers_file_name: weightsFile,
        optimized_model_external_initializers_min_size_in_bytes: "1024",
        save_external_prepacked_constant_initializers: "1",
      },
    },
  });
  await session.release();
  return folder;
}
