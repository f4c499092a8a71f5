import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { kvspliceIn } from "../support/cli/in-process.js";

const devices = (...args: string[]) => kvspliceIn(process.cwd(), ["devices", ...args]);

describe.runIf(process.platform === "linux")("kvsplice devices, without a Vulkan driver", () => {
  const known = process.env["VK_DRIVER_FILES"];
  beforeAll(() => {
    process.env["VK_DRIVER_FILES"] = "/none.json";
  });
  afterAll(() => {
    if (known === undefined) delete process.env["VK_DRIVER_FILES"];
    else process.env["VK_DRIVER_FILES"] = known;
  });

  test("times the processor, tries nothing else, and says why auto uses it", async () => {
    const { status, stdout } = await devices("--json");
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      cpu: { cores: expect.any(Number), gflops: expect.any(Number), products: "float32" },
      drivers: [],
      webgpu: null,
      auto: "cpu",
      reason: expect.stringMatching(
        /^There is no graphics processor:|^No driver has reported a graphics processor|no Vulkan driver is installed/,
      ),
    });
  });

  test("prints the same as text", async () => {
    const { stdout } = await devices();
    expect(stdout).toMatch(/^processor {2}.+, \d+ cores?: [\d.]+ GFLOP\/s in float32$/m);
    expect(stdout).toMatch(/^Vulkan {5}\/none\.json: VK_DRIVER_FILES names it, but it describes no driver$/m);
    expect(stdout).toMatch(/^--device auto encodes documents and answers on the processor\. /m);
  });
});

test("an unknown device is refused, and the known ones are listed", async () => {
  const { status, stderr } = await kvspliceIn(process.cwd(), ["worker", "--queue", "redis://localhost:1", "--device", "cuda"]);
  expect(status).not.toBe(0);
  expect(stderr).toContain("cpu, webgpu, auto");
});

test("a --device-memory that is not a size is refused", async () => {
  const { status, stderr } = await kvspliceIn(process.cwd(), ["worker", "--queue", "redis://localhost:1", "--device-memory", "much"]);
  expect(status).not.toBe(0);
  expect(stderr).toContain("Give a size such as 8GB.");
});

test.each([
  ["--device-memory", "8GB"],
  ["--answer-on", "cpu"],
])("%s without a device is refused, and not ignored", async (...option) => {
  const { status, stderr } = await kvspliceIn(process.cwd(), ["precompute", "examples/corpus", "--store", "never-made.kv", ...option]);
  expect(status).toBe(1);
  expect(stderr).toContain(`${option[0]} is for graphics processors. Add --device webgpu or --device auto, or leave it out.`);
  expect(existsSync("never-made.kv")).toBe(false);
});
