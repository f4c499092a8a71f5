import { type Hardware, hardware } from "./devices.js";
import { type Trial, trial } from "./trial.js";

/** What computes: the processor, or a graphics processor through WebGPU. */
export type DeviceName = "cpu" | "webgpu";

/** `auto` uses a graphics processor if `surveyDevices` would. */
export type DeviceChoice = DeviceName | "auto";

export const DEVICES: readonly DeviceChoice[] = ["cpu", "webgpu", "auto"];

/** Computing on a graphics processor has been measured on one card only, so it must be requested. */
export const DEFAULT_DEVICE: DeviceChoice = "cpu";

export type Survey = {
  /** What the system's files report; undefined if there are none. */
  readonly hardware: Hardware | undefined;
  /** Passes on the processor, and through WebGPU; undefined if that was not tried. */
  readonly trials: { readonly cpu: Trial | undefined; readonly webgpu: Trial | undefined };
  /** What `auto` uses. */
  readonly chosen: DeviceName;
  /** Why, as a sentence. */
  readonly reason: string;
};

/** What a survey examines the machine with; tests replace it. */
export type Looks = { readonly hardware: () => Hardware | undefined; readonly trial: (device: DeviceName) => Promise<Trial> };

/** How many times as fast as the processor a device must be to be worth starting. */
const WORTH = 1.5;

/**
 * Root mean square of the difference of the results relative to that of the results. Both round a product's inputs to 8 bits,
 * each in its own way.
 */
const TOLERANCE = 0.05;

/**
 * What can compute here, and which of it `auto` would use. A device that the system's files rule out is not tried unless `all`
 * is set; trials run in a separate process.
 */
export async function surveyDevices({ all = false } = {}, looks: Looks = { hardware, trial }): Promise<Survey> {
  const found = looks.hardware();
  const hindrance = found && hindranceOf(found);
  const isTried = hindrance === undefined || (all && found!.drivers.length > 0);
  const cpu = isTried || all ? await looks.trial("cpu") : undefined;
  const webgpu = isTried ? await looks.trial("webgpu") : undefined;
  const { chosen, reason } = hindrance === undefined ? compared(cpu!, webgpu!) : { chosen: "cpu" as const, reason: hindrance };
  return { hardware: found, trials: { cpu, webgpu }, chosen, reason };
}

/** Why no graphics processor can be used here, according to the system's files. */
function hindranceOf({ gpus, drivers }: Hardware): string | undefined {
  const software = drivers.filter(({ of }) => of === "software");
  if (gpus.length === 0) {
    if (software.length > 0) return `There is no graphics processor: ${software[0]!.library} computes on the processor.`;
    return "No driver has reported a graphics processor to the system.";
  }
  if (gpus.some(({ vendor }) => drivers.some(({ of }) => of === vendor))) return undefined;
  const [{ vendor, name }] = gpus as [(typeof gpus)[0]];
  const other = drivers.length === 0 ? "no Vulkan driver is installed" : `none of the installed Vulkan drivers is from ${vendor}`;
  return `There is a graphics processor (${name}), but ${other}. Install ${vendor}'s driver, with its file in /usr/share/vulkan/icd.d.`;
}

function compared(cpu: Trial, webgpu: Trial): { readonly chosen: DeviceName; readonly reason: string } {
  if ("error" in webgpu) return { chosen: "cpu", reason: `WebGPU does not work here: ${webgpu.error}` };
  if ("error" in cpu) return { chosen: "cpu", reason: `The trial on the processor failed: ${cpu.error}` };
  const size = (values: readonly number[]) => Math.hypot(...values);
  if (!(size(cpu.results.map((value, i) => value - webgpu.results[i]!)) <= TOLERANCE * size(cpu.results)))
    return {
      chosen: "cpu",
      reason: "The graphics processor's results differ from the processor's. Another version of its driver may be correct.",
    };
  const times = webgpu.gflops / cpu.gflops;
  if (times < WORTH)
    return {
      chosen: "cpu",
      reason: `The graphics processor is ${times.toFixed(1)} times as fast as the processor, but ${WORTH} are required.`,
    };
  return { chosen: "webgpu", reason: `The graphics processor is ${times.toFixed(1)} times as fast as the processor.` };
}
