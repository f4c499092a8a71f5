import { Command } from "commander";
import {
  type BuiltGraphs,
  builtGraphs,
  graphsFolder,
  type HeldModel,
  isHeldSound,
  KvspliceError,
  listModels,
  modelsFolder,
  removeGraphs,
  removeHeld,
} from "../engine/index.js";
import { sizeText } from "./progress.js";

type Options = { readonly json?: boolean };

export function modelsCommand(): Command {
  return new Command("models")
    .description("list the models on this machine and the graphs built from them")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Models are found in the Hugging Face cache and in the folders of LM Studio and Ollama. A graph is a model's weights in
the layout that is fastest on this processor. It is built when the model is first loaded, and can be rebuilt at any time.

Examples:
  $ kvsplice models
  $ kvsplice models --json | jq '.models[].name'
  $ kvsplice models verify
  $ kvsplice models remove hf:Qwen/Qwen3-1.7B-GGUF:Q4_K_M`,
    )
    .action(list)
    .addCommand(
      new Command("remove")
        .description("remove models or graphs by name")
        .argument("<names...>", "names as kvsplice models prints them")
        .option("--json", "print one JSON object")
        .action(remove),
    )
    .addCommand(
      new Command("verify")
        .description("read models and graphs, and report damaged ones")
        .argument("[names...]", "names as kvsplice models prints them (default: all)")
        .option("--json", "print one JSON object")
        .action(verify),
    );
}

function list({ json }: Options): void {
  const [models, graphs] = [listModels(), builtGraphs()];
  const places = { models: modelsFolder(), graphs: graphsFolder() };
  if (json) return print({ places, models, graphs });
  const lines = models.map(({ name, keeper, bytes }) => [name, sizeText(bytes), KEEPERS[keeper]] as const);
  const built = graphs.map(({ name, model, bytes }) => [name, sizeText(bytes), `built from ${model}`] as const);
  const width = Math.max(0, ...[...lines, ...built].map(([name]) => name.length));
  for (const [name, size, what] of [...lines, ...built]) process.stdout.write(`${name.padEnd(width)}  ${size.padStart(8)}  ${what}\n`);
  process.stdout.write(
    `${models.length + graphs.length > 0 ? "\n" : ""}Models are downloaded to ${places.models}; graphs are built in ${places.graphs}.\n`,
  );
}

const KEEPERS: Record<HeldModel["keeper"], string> = {
  "hugging face": "Hugging Face cache",
  address: "Hugging Face cache",
  "lm studio": "LM Studio",
  ollama: "Ollama",
};

async function remove(names: readonly string[], _: Options, command: Command): Promise<void> {
  const found = byNames(names);
  for (const model of found.models) removeHeld(model);
  for (const graphs of found.graphs) await removeGraphs(graphs);
  const bytes = [...found.models, ...found.graphs].reduce((sum, each) => sum + each.bytes, 0);
  if (command.optsWithGlobals<Options>().json) print({ removed: names, bytes });
  else process.stdout.write(`Removed ${names.join(", ")}: ${sizeText(bytes)}.\n`);
}

async function verify(names: readonly string[], _: Options, command: Command): Promise<void> {
  const { json } = command.optsWithGlobals<Options>();
  const found = names.length > 0 ? byNames(names) : { models: listModels(), graphs: builtGraphs() };
  const results: { readonly name: string; readonly state: "whole" | "damaged" | "unknown" }[] = [];
  const note = (name: string, sound: boolean | undefined) => {
    const state = sound === undefined ? "unknown" : sound ? "whole" : "damaged";
    results.push({ name, state });
    if (!json) process.stdout.write(`${state === "unknown" ? "no known hash" : state}  ${name}\n`);
  };
  for (const model of found.models) note(model.name, await isHeldSound(model));
  for (const graphs of found.graphs) note(graphs.name, await graphs.isSound());
  if (json) print({ results });
  const damaged = results.filter(({ state }) => state === "damaged");
  if (damaged.length > 0)
    throw new KvspliceError(
      "bad_model",
      `Damaged: ${damaged.map(({ name }) => name).join(", ")}. Remove them with kvsplice models remove NAME; they are downloaded or built again when next used.`,
    );
}

function byNames(names: readonly string[]): { readonly models: readonly HeldModel[]; readonly graphs: readonly BuiltGraphs[] } {
  const [models, graphs] = [listModels(), builtGraphs()];
  for (const name of names) {
    if (![...models, ...graphs].some((each) => each.name === name))
      throw new KvspliceError("bad_argument", `${name} is not on this machine. kvsplice models lists what is.`);
  }
  return { models: models.filter(({ name }) => names.includes(name)), graphs: graphs.filter(({ name }) => names.includes(name)) };
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
