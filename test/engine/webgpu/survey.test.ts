import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { hardware } from "../../../engine/backend/webgpu/devices.js";
import { type Looks, surveyDevices } from "../../../engine/backend/webgpu/survey.js";
import type { Trial } from "../../../engine/backend/webgpu/trial.js";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "kvsplice-devices-"));
});
afterEach(() => rmSync(root, { recursive: true }));

function files(contents: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(contents)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

const driver = (library: string) =>
  JSON.stringify({ file_format_version: "1.0.1", ICD: { library_path: library, api_version: "1.3.280" } });
const found = (env: NodeJS.ProcessEnv = {}) => hardware({ platform: "linux", env, root });

const AMD = {
  "sys/class/drm/renderD128/device/vendor": "0x1002\n",
  "sys/class/drm/renderD128/device/device": "0x744c\n",
  "sys/class/drm/renderD128/device/mem_info_vram_total": "25753026560\n",
};
const NVIDIA = { "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 10\n" };
const SOFTWARE = { "usr/share/vulkan/icd.d/lvp_icd.x86_64.json": driver("/usr/lib/x86_64-linux-gnu/libvulkan_lvp.so") };

describe("the system's files", () => {
  test("of a machine without a graphics processor list none", () => {
    expect(found()).toEqual({ gpus: [], drivers: [], notDrivers: [] });
  });

  test("name AMD's cards by number and memory, and NVIDIA's by model", () => {
    files({ ...AMD, ...NVIDIA, "usr/share/vulkan/icd.d/radeon_icd.json": driver("libvulkan_radeon.so"), ...SOFTWARE });
    expect(found()).toEqual({
      gpus: [
        { vendor: "NVIDIA", name: "NVIDIA H100 80GB HBM3" },
        { vendor: "AMD", name: "AMD 0x744c", memory_bytes: 25753026560 },
      ],
      drivers: [
        { library: "/usr/lib/x86_64-linux-gnu/libvulkan_lvp.so", of: "software" },
        { library: "libvulkan_radeon.so", of: "AMD" },
      ],
      notDrivers: [],
    });
  });

  test("name an NVIDIA card once, although the system and NVIDIA's driver both list it", () => {
    files({ ...NVIDIA, "sys/class/drm/renderD128/device/vendor": "0x10de\n" });
    expect(found()?.gpus).toHaveLength(1);
  });

  test("do not take a virtual machine's display for a graphics processor", () => {
    files({ "sys/class/drm/renderD128/device/vendor": "0x1af4\n" });
    expect(found()?.gpus).toEqual([]);
  });

  test("name the drivers chosen by VK_DRIVER_FILES, and those of its files that are damaged or missing", () => {
    files({ ...SOFTWARE, "mine/nvidia_icd.json": driver("libGLX_nvidia.so.0"), "mine/damaged.json": "{" });
    const [nvidia, ...others] = ["nvidia_icd.json", "damaged.json", "missing.json"].map((name) => join(root, "mine", name));
    expect(found({ VK_DRIVER_FILES: [nvidia, ...others].join(":") })).toEqual({
      gpus: [],
      drivers: [{ library: "libGLX_nvidia.so.0", of: "NVIDIA" }],
      notDrivers: others,
    });
  });

  test("are read only on Linux", () => {
    expect(hardware({ platform: "darwin", root })).toBeUndefined();
  });
});

describe("a survey", () => {
  const results = [1, -2, 3];
  const tried: string[] = [];
  const looks = (webgpu: Trial, here = found()): Looks => ({
    hardware: () => here,
    trial: async (device) => (tried.push(device), device === "cpu" ? { gflops: 100, results, type: "float16", fused: true } : webgpu),
  });
  beforeEach(() => {
    tried.length = 0;
  });
  const fast: Trial = { gflops: 4000, results: [1.01, -2, 3], type: "float16", fused: true };
  const withGpu = () => files({ ...AMD, "usr/share/vulkan/icd.d/radeon_icd.json": driver("libvulkan_radeon.so"), ...SOFTWARE });

  test("chooses a graphics processor that is faster and computes the same results", async () => {
    withGpu();
    expect(await surveyDevices({}, looks(fast))).toMatchObject({ chosen: "webgpu", reason: expect.stringContaining("40.0 times as fast") });
  });

  test("never chooses a driver that computes on the CPU, and tries it only if everything is requested", async () => {
    files(SOFTWARE);
    const { chosen, reason } = await surveyDevices({}, looks(fast));
    expect({ chosen, reason }).toEqual({
      chosen: "cpu",
      reason: "There is no graphics processor: /usr/lib/x86_64-linux-gnu/libvulkan_lvp.so computes on the processor.",
    });
    expect(tried).toEqual([]);
    expect(await surveyDevices({ all: true }, looks(fast))).toMatchObject({ chosen: "cpu", trials: { webgpu: fast } });
  });

  test("reports which vendor's driver is missing", async () => {
    files({ ...NVIDIA, ...SOFTWARE });
    expect(await surveyDevices({}, looks(fast))).toMatchObject({
      chosen: "cpu",
      reason:
        "There is a graphics processor (NVIDIA H100 80GB HBM3), but none of the installed Vulkan drivers is from NVIDIA. Install NVIDIA's driver, with its file in /usr/share/vulkan/icd.d.",
    });
  });

  test.each<[string, Trial, string]>([
    ["fails", { error: "the driver ended the process (SIGSEGV)" }, "WebGPU does not work here: the driver ended the process (SIGSEGV)"],
    ["computes other numbers", { gflops: 4000, results: [1, 2, 3], type: "float16", fused: true }, "results differ from the processor's"],
    [
      "computes no numbers",
      { gflops: 4000, results: [Number.NaN, 0, 0], type: "float16", fused: true },
      "results differ from the processor's",
    ],
    [
      "is hardly faster",
      { gflops: 120, results, type: "float16", fused: true },
      "1.2 times as fast as the processor, but 1.5 are required",
    ],
  ])("does not choose one that %s", async (_, webgpu, reason) => {
    withGpu();
    expect(await surveyDevices({}, looks(webgpu))).toMatchObject({ chosen: "cpu", reason: expect.stringContaining(reason) });
  });

  test("tries the device if the system has no such files", async () => {
    expect(await surveyDevices({}, { ...looks(fast), hardware: () => undefined })).toMatchObject({ chosen: "webgpu" });
  });
});
