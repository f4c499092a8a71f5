import { Command } from "commander";
import { type Survey, surveyDevices, type Trial } from "../engine/index.js";
import { usableCores } from "../runtime/index.js";
import { processor } from "./processor.js";
import { sizeText } from "./progress.js";
import { counted } from "./words.js";

type Options = { readonly json?: boolean };

export function devicesCommand(): Command {
  return new Command("devices")
    .description("show what can compute on this machine, how fast, and whether --device auto would use a graphics processor")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Products with 4-bit weights, the bulk of the work, are timed on the processor and with WebGPU, each in a separate process.
This takes some seconds. Graphics processors and Vulkan drivers are found in the system's files (Linux); VK_DRIVER_FILES
selects a driver. A driver that computes on the processor is timed too, but auto never uses it.

Examples:
  $ kvsplice devices
  $ kvsplice devices --json | jq -r .reason`,
    )
    .action(async ({ json }: Options) => {
      const survey = await surveyDevices({ all: true });
      process.stdout.write(json ? `${JSON.stringify(toldOf(survey))}\n` : textOf(survey));
    });
}

function toldOf({ hardware, trials, chosen, reason }: Survey) {
  const speed = (trial: Trial | undefined) => trial && ("error" in trial ? trial : { gflops: trial.gflops, products: trial.type });
  return {
    cpu: { name: processor().name, cores: usableCores(), ...speed(trials.cpu) },
    gpus: hardware?.gpus ?? null,
    drivers: hardware?.drivers ?? null,
    webgpu: speed(trials.webgpu) ?? null,
    auto: chosen,
    reason,
  };
}

function textOf({ hardware, trials, chosen, reason }: Survey): string {
  const speed = (trial: Trial | undefined) =>
    trial === undefined
      ? ""
      : "error" in trial
        ? `: ${trial.error}`
        : `: ${trial.gflops.toFixed(trial.gflops < 10 ? 1 : 0)} GFLOP/s in ${trial.type}`;
  const lines = [`processor  ${processor().name}, ${counted(usableCores(), "core")}${speed(trials.cpu)}`];
  for (const { name, memory_bytes } of hardware?.gpus ?? [])
    lines.push(`graphics   ${name}${memory_bytes === undefined ? "" : `, ${sizeText(memory_bytes)}`}`);
  for (const { library, of } of hardware?.drivers ?? []) lines.push(`Vulkan     ${library} (${of})`);
  for (const path of hardware?.notDrivers ?? []) lines.push(`Vulkan     ${path}: VK_DRIVER_FILES names it, but it describes no driver`);
  if (trials.webgpu) lines.push(`WebGPU     passes${speed(trials.webgpu)}`);
  const use =
    chosen === "webgpu"
      ? "--device auto encodes documents and answers with WebGPU."
      : "--device auto encodes documents and answers on the processor.";
  return `${lines.join("\n")}\n\n${use} ${reason}\n`;
}
