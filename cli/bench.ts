import { Command } from "commander";
import pc from "picocolors";
import { builtGraphs } from "../engine/index.js";
import { usableCores } from "../runtime/index.js";
import { withInterrupt } from "./interrupt.js";
import { type Measured, measureModel } from "./measure.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { positiveNumber } from "./positive-number.js";
import { processor } from "./processor.js";
import { sizeText } from "./progress.js";

type Options = ModelOptions & {
  readonly documents: number;
  readonly tokens: number;
  readonly answer: number;
  readonly runs: number;
  readonly full: boolean;
  readonly json?: boolean;
};

/** What someone choosing a model or a machine wants to know. */
type Bench = Measured & {
  readonly model: string;
  readonly machine: { readonly cpu: string; readonly simd: readonly string[]; readonly threads: number };
  /** The first load prepares the model for this processor; undefined if that was done before. */
  readonly load: { readonly first_ms?: number; readonly later_ms: number };
};

export function benchCommand(): Command {
  return withModelOptions(new Command("bench"))
    .description(
      "measure a model on this machine: loading, encoding, the first token spliced and with full prefill, tokens per second, memory",
    )
    .option("--documents <n>", "documents in the prompt", positiveNumber, 10)
    .option("--tokens <n>", "tokens of each document", positiveNumber, 130)
    .option("--answer <n>", "tokens of each answer", positiveNumber, 24)
    .option("--runs <n>", "answers to time in each way; medians are printed; full prefill runs once", positiveNumber, 3)
    .option("--no-full", "skip full prefill, which takes longest")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
The documents are texts that come with kvsplice. A model that was not trained for
splicing recomputes a share of their tokens (--link auto), shown in a separate row.

Examples:
  $ kvsplice bench
  $ kvsplice bench --model hf:Qwen/Qwen3-1.7B-GGUF:Q4_K_M
  $ kvsplice bench --model model.gguf --documents 40 --no-full --json | jq .encode`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  const { json } = options;
  const tell = (step: string) => void process.stderr.write(`${pc.dim(step)}\n`);
  const choice = await chooseModel(options, undefined);
  await withInterrupt(async (signal) => {
    const load = { ...choice, signal, ...(json && { json }) };
    const built = builtGraphs().length;
    const first = await timeToLoad(() => withModel(load, async () => performance.now()));
    const prepared = builtGraphs().length > built;
    const start = performance.now();
    await withModel(load, async (model) => {
      const later_ms = performance.now() - start;
      const measured = await measureModel(model, { ...options, signal, onStep: tell });
      const { name, simd } = processor();
      const bench: Bench = {
        model: model.name,
        machine: { cpu: name, simd, threads: usableCores() },
        load: { ...(prepared && { first_ms: first }), later_ms },
        ...measured,
      };
      process.stdout.write(json ? `${JSON.stringify(bench)}\n` : `${table(bench)}\n`);
    });
  });
}

async function timeToLoad(load: () => Promise<number>): Promise<number> {
  const start = performance.now();
  return (await load()) - start;
}

function table({ model, machine, prompt, load, encode, ways, memory_bytes }: Bench): string {
  const ms = (value: number) => `${value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 })} ms`;
  const seconds = (value: number) => `${(value / 1000).toFixed(2)} s`;
  const rows: [string, string][] = [
    ...(load.first_ms === undefined ? [] : [["first load, prepared for this processor", seconds(load.first_ms)] as [string, string]]),
    ["load", seconds(load.later_ms)],
    ["encode", `${encode.tokens_per_s.toFixed(0)} tokens/s`],
    ...ways.flatMap(({ way, first_token_ms, per_token_ms, computed_tokens }): [string, string][] => [
      [`first token, ${way}`, `${ms(first_token_ms)}, ${computed_tokens} tokens computed`],
      [`each further token, ${way}`, `${ms(per_token_ms)}, ${(1000 / per_token_ms).toFixed(1)} tokens/s`],
    ]),
    ["memory", sizeText(memory_bytes)],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    `${pc.bold(model)}, ${prompt.documents} documents of ${prompt.document_tokens} tokens`,
    pc.dim(
      `${machine.cpu}, ${machine.threads} ${machine.threads === 1 ? "thread" : "threads"}${machine.simd.length === 0 ? "" : `, ${machine.simd.join(", ")}`}`,
    ),
    ...rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`),
    ...comparison(ways),
  ].join("\n");
}

function comparison(ways: Measured["ways"]): string[] {
  const full = ways.find(({ way }) => way === "full prefill");
  return full
    ? ways
        .filter((way) => way !== full)
        .map(
          ({ way, first_token_ms }) =>
            `${way}: first token ${(full.first_token_ms / first_token_ms).toFixed(1)} times faster than with full prefill`,
        )
    : [];
}
