// Reads a vocabulary and compiles grammars that have not been tried yet. The caller may end the worker when a grammar takes
// too long; the next worker starts from the vocabulary.
import { parentPort, workerData } from "node:worker_threads";
import { Llguidance } from "./llguidance.js";

const { module, tokens } = workerData;
const snapshot = workerData.snapshot ?? Llguidance.ofTokens(module, tokens).snapshot();
let engine = Llguidance.ofSnapshot(module, snapshot);
parentPort.postMessage({ snapshot });

parentPort.on("message", ({ kind, text }) => {
  try {
    const matcher = engine.compile(kind, text);
    engine.mask(matcher, new Uint32Array(engine.words));
    engine.drop(matcher);
    parentPort.postMessage({});
  } catch (error) {
    if (engine.broken) engine = Llguidance.ofSnapshot(module, snapshot);
    parentPort.postMessage({ error: error.message });
  }
});
