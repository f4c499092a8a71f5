import { type Computes, computesOf } from "./trial-passes.js";

// The program of a trial: a separate process, so that a crashing driver ends nothing else.
const provider = process.argv[2] as "cpu" | "webgpu";
let result: Computes | { readonly error: string };
try {
  result = await computesOf(provider);
} catch (error) {
  // ONNX Runtime prefixes its source location, up to the condition that failed.
  result = { error: (error as Error).message.split("was false. ").at(-1)!.trim() };
}
process.stdout.write(`${JSON.stringify(result)}\n`);
