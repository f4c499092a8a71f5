import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/** Tests that load a model, or start a browser, Redis or kvsplice itself. `npm run test:unit` runs the others. */
const WITH_MODEL = [
  "adapters/*",
  "cli/*",
  "docs/*",
  "engine/{damage,determinism,golden,keep,language,loading,lookup,objects,prepack,schedule,shared-tier,splice,store-processes,thread,w8a8}",
  "engine/files/{folder-logits,quantized}",
  "engine/{link,models}/*",
  "engine/hub/pull",
  "engine/webgpu/{answering,encoding}",
  "fleet/*",
  "optional-packages",
  "pml/model",
  "rag/{answer,embedder,encoder,processes,read-only}",
  "rag/audit/*",
  "runtime/telemetry",
  "server/{bad-input,conversations,faults,haproxy,openai,playground,reach,shared-conversations,structured}",
].map((files) => `test/${files}.test.ts`);

/** Some hundred megabytes are a model's. */
const MOST_WORKERS = 4;

export default defineConfig({
  test: {
    // The commands colour their output if CI is set, but the tests expect plain text. A pass with one thread leaves the other cores
    // to other files: two files at a time whose passes share two cores wait for each other.
    env: { NO_COLOR: "1", KVSPLICE_THREADS: "1" },
    maxWorkers: Math.min(availableParallelism(), MOST_WORKERS),
    // A slow machine fails no test: what never comes ends these waits.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 100_000 } },
    reporters: ["default", "./test/support/skipped.ts"],
    projects: [
      { extends: true, test: { name: "unit", include: ["test/**/*.test.ts"], exclude: WITH_MODEL } },
      { extends: true, test: { name: "model", include: WITH_MODEL } },
    ],
  },
});
