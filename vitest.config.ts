import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Each file loads a model that uses all cores: one after the other is as fast, and steadier.
    fileParallelism: false,
    // The commands colour what they print where CI is set; the tests read it plain.
    env: { NO_COLOR: "1" },
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
