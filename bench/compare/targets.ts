import type { FirstToken, Results } from "./results.js";

export type Target = {
  readonly what: string;
  readonly target: string;
  readonly measured: string;
  /** Absent if this run did not measure it. */
  readonly met?: boolean;
};

/** Accuracy of the reference used in training, with documents encoded separately (models/NOTICE.md). */
const REFERENCE = [
  { file: /nq/i, name: "Natural Questions", contains: 31.2 },
  { file: /xquad/i, name: "XQuAD", contains: 35 },
] as const;
const WITHIN = 1.5;

/** The targets, as ratios within this run. */
export function targetsOf(results: Results): Target[] {
  const { first_token, decode, encode, splice, load, memory, accuracy } = results;
  const ten = first_token.find(({ documents, fresh }) => documents === 10 && fresh < 40);
  const forty = first_token.find(({ documents }) => documents === 40);
  const best = (each: FirstToken) => Math.min(each.llama_ms.median, each.llama_plain_ms?.median ?? Number.POSITIVE_INFINITY);
  const atLeast = (what: string, target: number, measured: number | undefined): Target =>
    measured === undefined
      ? { what, target: `${target}`, measured: "not in this run" }
      : { what, target: `${target}`, measured: measured.toFixed(measured < 10 ? 2 : 0), met: measured >= target };
  const atMost = (what: string, target: number, measured: number, unit = ""): Target => ({
    what,
    target: `at most ${target}${unit}`,
    measured: `${measured.toFixed(2)}${unit}`,
    met: measured <= target,
  });
  return [
    atLeast(
      "time to first token, 10 documents: node-llama-cpp cold (its better setting) / spliced",
      60,
      ten && best(ten) / ten.spliced_ms.median,
    ),
    atLeast("the same at 40 documents", 120, forty && best(forty) / forty.spliced_ms.median),
    atLeast("own full prefill / spliced, 10 documents", 40, ten && ten.full_ms.median / ten.spliced_ms.median),
    atLeast("encoding tokens/s / node-llama-cpp's prefill", 2.5, encode.kvsplice_tokens_per_s.median / encode.llama_tokens_per_s.median),
    atMost(
      `per token at ${decode.context.toLocaleString("en")} tokens of context / node-llama-cpp's`,
      0.7,
      decode.kvsplice_ms.median / Math.min(decode.llama_ms.median, decode.llama_plain_ms.median),
    ),
    atMost(
      `splice of ${splice.tokens.toLocaleString("en")} cached tokens (fetch from memory and re-encode) / a plain copy of the spliced bytes`,
      1.5,
      splice.splice_ms.median / splice.copy_ms.median,
    ),
    atMost("first answer of a new process with graphs cached: load and first token", 1.5, load.cached_first_answer_ms.median / 1000, " s"),
    atMost("peak memory / weights and live KV", 1.6, memory.spliced / (memory.weights + memory.live_kv)),
    ...REFERENCE.map(({ file, name, contains }): Target => {
      const what = `accuracy (contains) on ${name}, spliced, against the reference's ${contains.toFixed(1)}`;
      const found = accuracy.filter(
        (each) =>
          file.test(each.file) &&
          each.mode === "spliced" &&
          each.link_tokens === 0 &&
          each.activations === "int8" &&
          each.precision === "int8",
      );
      const target = `within ${WITHIN}`;
      if (found.length === 0) return { what, target, measured: "not in this run" };
      const mean = found.reduce((sum, each) => sum + each.contains, 0) / found.length;
      const orders =
        found.length > 1 ? ` in each of ${found.length} orders: ${found.map((each) => each.contains.toFixed(1)).join(", ")}` : "";
      return { what, target, measured: `${mean.toFixed(1)} (${found[0]!.questions} questions${orders})`, met: mean >= contains - WITHIN };
    }),
  ];
}
