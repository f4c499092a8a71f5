import { existsSync } from "node:fs";
import { trial } from "../../../../engine/backend/webgpu/trial.js";

/** Drivers that compute on the processor, where packages put them: Chromium's SwiftShader. Mesa's lavapipe is found without. */
const SOFTWARE = ["/usr/lib/chromium/vk_swiftshader_icd.json"];

/**
 * Whether WebGPU works here, with the system's drivers or one that computes on the processor; tests are skipped elsewhere. It
 * is tried in a separate process, so that a driver that ends its process does not end the tests.
 */
export async function findVulkan(): Promise<boolean> {
  if (!("error" in (await trial("webgpu")))) return true;
  const known = process.env["VK_DRIVER_FILES"];
  for (const path of SOFTWARE.filter((each) => existsSync(each))) {
    process.env["VK_DRIVER_FILES"] = process.env["VK_ICD_FILENAMES"] = path;
    if (!("error" in (await trial("webgpu")))) return true;
  }
  if (known === undefined) delete process.env["VK_DRIVER_FILES"];
  return false;
}
