import type { Results } from "./results.js";
import type { Series } from "./series.js";
import { targetsOf } from "./targets.js";

/** RESULTS.md of one run. */
export function renderResults(results: Results): string {
  const { machine, threads, versions, quick, seconds, agreement } = results;
  return [
    "# Results",
    "",
    `Written by \`npm --prefix bench start${quick ? " -- --quick" : ""}\` in ${seconds} s. Each figure is a median, with minimum and maximum in brackets. Peers were measured in turns, each in a separate process.`,
    "",
    ...(quick ? ["**A quick run: few rounds and workloads. Run without `--quick` for figures to quote.**", ""] : []),
    `- ${machine.cpu}, ${machine.cores} cores (${machine.simd}), ${machine.memory_gib} GiB of memory, Node ${machine.node}; machine load before the run: ${machine.load}`,
    `- ${threads} threads each; model: kvsplice-135m (SmolLM2-135M, 4-bit), the same GGUF for all`,
    `- kvsplice ${versions.kvsplice}; node-llama-cpp ${versions.node_llama_cpp} (llama.cpp ${versions.llama_cpp}), CPU only, batches of 512 tokens`,
    `- Both get the same token ids. kvsplice's full prefill and node-llama-cpp chose the same first token in ${agreement.same} of ${agreement.of} workloads.`,
    "",
    ...section("Targets", targets(results)),
    ...section("Time to the first token", [
      ...firstToken(results),
      "",
      "![over documents](first-token-by-documents.svg)",
      "",
      "![over tokens](first-token-by-tokens.svg)",
    ]),
    ...section("Link tokens", [
      "Ten documents of 130 tokens; link tokens are computed with the question.",
      "",
      ...table(
        ["link tokens after each document", "tokens computed", "first token, ms"],
        results.links.map((row) => [`${row.link_tokens}`, `${row.computed_tokens}`, spread(row.first_token_ms)]),
      ),
    ]),
    ...section("Store precisions", [
      "Ten documents of 130 tokens, blocks in memory.",
      "",
      ...table(
        ["blocks stored as", "first token, ms", "fetch and splice, ms"],
        results.precisions.map((row) => [row.precision, spread(row.first_token_ms), spread(row.fetch_and_splice_ms)]),
      ),
    ]),
    ...section("node-llama-cpp's prefix cache", [
      `Ten documents, flash attention, after the first question over them. A prefix cache helps as long as the beginning of the prompt stays the same; when a search ranks the documents differently, it starts over. kvsplice too reuses the spliced beginning that a prompt shares with the previous one.`,
      "",
      ...table(
        ["next prompt", "tokens kept by node-llama-cpp", "its first token, ms", "kvsplice's first token, ms"],
        results.prefix_cache.map((row) => [row.name, `${row.kept_tokens}`, spread(row.first_token_ms), spread(row.spliced_ms)]),
      ),
    ]),
    ...section("Other quantities", table(["", "kvsplice", "node-llama-cpp"], others(results))),
    ...section("Accuracy", accuracy(results)),
    ...section("Peers", [
      "- **node-llama-cpp**: the same GGUF with its prebuilt package, with and without flash attention; tokens are passed to `evaluate`, so its own template and tokenizer play no part.",
      "- **kvsplice, full prefill**: the same plan with nothing cached; every token sees all before it.",
      "- **@huggingface/transformers** is not included: it runs ONNX exports with a fixed interface (`input_ids`, `attention_mask`, `past_key_values.*`) rather than GGUF, and this model exists only as GGUF. The base model's published export has other weights and another vocabulary, so its times would be those of a different model.",
    ]),
  ].join("\n");
}

function section(title: string, lines: readonly string[]): string[] {
  return [`## ${title}`, "", ...lines, ""];
}

function targets(results: Results): string[] {
  const rows = targetsOf(results).map(({ what, target, measured, met }) => [
    what,
    target,
    measured,
    met === undefined ? "" : met ? "yes" : "**no**",
  ]);
  return [...table(["what", "target", "measured", "met"], rows), "", ...bounds(results)];
}

/** How close to two of the targets this work can get at all. */
function bounds({ first_token, memory }: Results): string[] {
  const ten = first_token.find(({ documents, fresh }) => documents === 10 && fresh < 40)!;
  const pass = ten.spliced_ms.median - ten.splice_ms.median - ten.fetch_ms.median;
  const least = memory.libraries + memory.weights + memory.live_kv;
  return [
    `- Own full prefill / spliced: the pass over the question's ${ten.fresh} tokens takes ${pass.toFixed(0)} ms, ${(pass / ten.fresh).toFixed(2)} ms per token, each attending to the whole prompt; in a full prefill a token takes ${(ten.full_ms.median / ten.tokens).toFixed(2)} ms, attending to half of it on average. With a splice that took no time, the ratio would be ${(ten.full_ms.median / pass).toFixed(0)}. Both consist of the same products, so whatever speeds up one also speeds up the other.`,
    `- Peak memory: before a model is loaded, Node with kvsplice's libraries takes ${mib(memory.libraries)}. With only weights and KV in addition, the ratio would be ${(least / (memory.weights + memory.live_kv)).toFixed(2)}. Of the measured peak, ${mib(memory.mapped)} are pages of files (weights, blocks, programs), which other processes on the machine share and the system can reclaim.`,
  ];
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

function firstToken({ first_token }: Results): string[] {
  const rows = first_token.map((row) => [
    row.name,
    `${row.tokens}`,
    spread(row.spliced_ms),
    `${ms(row.fetch_ms)} + ${ms(row.splice_ms)} + ${(row.spliced_ms.median - row.fetch_ms.median - row.splice_ms.median).toFixed(0)}`,
    spread(row.full_ms),
    spread(row.llama_ms),
    row.llama_plain_ms ? spread(row.llama_plain_ms) : "",
    `${(row.llama_ms.median / row.spliced_ms.median).toFixed(0)}x`,
  ]);
  return [
    "In ms, with blocks in memory and each spliced answer at different positions from the previous ones (the engine keeps the spliced KV of the last prompts, and would otherwise have nothing to splice). The parts of a spliced answer are fetch, splice (re-encoding at the prompt's positions), and the pass over the new tokens.",
    "",
    "Four documents of 2,000 words would take some 11,000 tokens; the model's context has 8,192, so the longest prompt has three of 1,900.",
    "",
    ...table(
      [
        "prompt",
        "tokens",
        "kvsplice, spliced",
        "its parts",
        "kvsplice, full prefill",
        "node-llama-cpp, flash attention",
        "without",
        "flash attention / spliced",
      ],
      rows,
    ),
  ];
}

function others({ decode, encode, splice, load, memory }: Results): string[][] {
  return [
    [
      `ms per token at ${decode.context.toLocaleString("en")} tokens of context (${decode.tokens} tokens)`,
      spread(decode.kvsplice_ms, 1),
      `${spread(decode.llama_ms, 1)}; without flash attention ${spread(decode.llama_plain_ms, 1)}`,
    ],
    ["encoding of documents / prefill, tokens/s", spread(encode.kvsplice_tokens_per_s), spread(encode.llama_tokens_per_s)],
    [
      `splice of ${splice.tokens.toLocaleString("en")} tokens (${mib(splice.bytes)}), ms`,
      `${spread(splice.splice_ms, 1)}; a plain copy of the bytes ${spread(splice.copy_ms, 1)}`,
      "",
    ],
    ["load, ms", `${spread(load.cached_ms)}; with the graphs built ${spread(load.cold_ms)}`, spread(load.llama_ms)],
    ["first token of a new process, graphs cached, blocks on disk: from the start of loading, ms", spread(load.cached_first_answer_ms), ""],
    ["the process from its start to the end of the answer, ms", spread(load.process_ms), ""],
    [
      "peak memory of a process that answers over ten documents",
      `${mib(memory.spliced)} spliced, ${mib(memory.full)} by full prefill`,
      `${mib(memory.llama)}`,
    ],
    ["weights and live KV in it", `${mib(memory.weights)} + ${mib(memory.live_kv)}`, ""],
  ];
}

function accuracy({ accuracy: rows }: Results): string[] {
  const how =
    "`npx kvsplice eval --questions nq.jsonl.gz --passages passages.jsonl.gz --json > nq.json`, then `npm --prefix bench start -- --accuracy nq.json`; docs/eval.md describes what is measured. The order of the documents in the reference is unknown; `--seed` draws other orders. Compare float32 and int8 in the same order to see the cost of rounding.";
  if (rows.length === 0) return [`Not measured in this run: ${how}`];
  const percent = (value: number) => value.toFixed(1);
  const cells = (row: Results["accuracy"][number]) => [
    `${row.file} (${row.questions})`,
    row.mode,
    `${row.link_tokens}`,
    `${row.seed}`,
    `${row.precision}, ${row.activations}`,
    percent(row.exact_match),
    percent(row.contains),
    percent(row.f1),
  ];
  return [
    how,
    "",
    ...table(
      ["questions", "mode", "link tokens", "order of documents", "KV, activations", "exact match", "contains", "F1"],
      rows.map(cells),
    ),
  ];
}

function ms(series: Series | undefined): string {
  return series === undefined ? "–" : series.median.toFixed(0);
}

function spread({ median, min, max, runs }: Series, digits = 0): string {
  const fixed = (value: number) => value.toFixed(digits);
  return runs === 1 ? fixed(median) : `${fixed(median)} (${fixed(min)}–${fixed(max)})`;
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)];
}
