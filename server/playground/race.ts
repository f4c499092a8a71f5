import type { GenerateOptions, GenerationStats } from "../../engine/index.js";
import type { Plan } from "../../plan/index.js";
import { type AnswerOptions, startAnswer } from "../answer.js";
import type { PreparedRequest } from "../prepare.js";
import type { Service } from "../service.js";
import type { AskEvent, RunName, RunStats } from "./events.js";
import { computedAgain } from "./pieces.js";

export type Runner = {
  readonly name: RunName;
  readonly prompt: PreparedRequest /** How its tokens are sampled. */;
  readonly sampling: GenerateOptions;
};

export type RaceOptions = Pick<AnswerOptions, "signal" | "arrived" | "log">;

/**
 * Answers the prompts one after another: in parallel they would compete for the cores, which would distort the times. The
 * full prefill is only a comparison, so only the spliced run counts as an answer of the server.
 */
export async function* race(runners: readonly Runner[], service: Service, options: RaceOptions): AsyncGenerator<AskEvent> {
  for (const runner of runners) {
    yield { type: "start", run: runner.name };
    yield* runner.name === "spliced" ? runSpliced(runner, service, options) : runFull(runner, service, options);
  }
}

async function* runSpliced({ name, prompt, sampling }: Runner, service: Service, options: RaceOptions): AsyncGenerator<AskEvent> {
  const start = performance.now();
  let linked: Plan = prompt.plan;
  const { formatted } = await import("./formatted.js"); // loaded late: the Markdown parser has a hundred modules
  const answered = await startAnswer(prompt, service, { ...sampling, ...options, onLinked: (plan) => void (linked = plan) });
  yield { type: "linked", again: computedAgain(prompt.plan, linked, service.model) };
  let said = "";
  for await (const { text } of answered) {
    said += text;
    yield { type: "token", run: name, text, at_ms: performance.now() - start };
    if (text.includes("\n")) yield { type: "formatted", blocks: formatted(said) };
  }
  yield { type: "formatted", blocks: formatted(said) };
  yield { type: "done", run: name, stats: statsOf(await answered.stats) };
}

async function* runFull(
  { name, prompt: { plan, maxNewTokens, stop }, sampling }: Runner,
  { model }: Service,
  { signal }: RaceOptions,
): AsyncGenerator<AskEvent> {
  const start = performance.now();
  const generation = model.generate(plan, { ...sampling, signal, maxNewTokens, stop });
  for await (const { text } of generation) yield { type: "token", run: name, text, at_ms: performance.now() - start };
  yield { type: "done", run: name, stats: statsOf(await generation.stats) };
}

function statsOf({
  queue_ms,
  fetch_ms,
  splice_ms,
  look_ms,
  first_token_ms,
  per_token_ms,
  computed_tokens,
  recomputed_tokens,
  finish,
}: GenerationStats): RunStats {
  return {
    queue_ms,
    fetch_ms,
    splice_ms,
    look_ms,
    first_token_ms,
    per_token_ms,
    computed_tokens,
    recomputed_tokens,
    cut: finish === "length",
  };
}
