import { randomUUID } from "node:crypto";
import type { GeneratedToken, GenerationStats, Tokenizer } from "../engine/index.js";
import type { StartedAnswer } from "./answer.js";
import type { Send } from "./event-stream.js";
import { ShownTokens, tokenText } from "./logprobs.js";
import type { PreparedRequest } from "./prepare.js";
import type { CompletionRequest } from "./requests/completion.js";
import type { Writer } from "./respond.js";
import { costOf, finishReason, usageOf } from "./usage.js";

/** A prompt with its answers. */
export type Continued = { readonly text: string; readonly prompt: PreparedRequest; readonly answers: readonly StartedAnswer[] };

export type TextParts = {
  readonly request: CompletionRequest;
  readonly prompts: readonly Continued[];
  readonly warnings: readonly string[];
  readonly model: { readonly id: string; readonly name: string; readonly tokenizer: Tokenizer };
};

type Finished = { readonly text: string; readonly tokens: readonly GeneratedToken[]; readonly stats: GenerationStats };

/** Continuations of texts, in the format of OpenAI's completions. */
export class TextCompletion implements Writer {
  private readonly head: object;

  constructor(private readonly parts: TextParts) {
    const { model } = parts;
    this.head = {
      id: `cmpl-${randomUUID()}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model: model.name,
      system_fingerprint: `fp_${model.id.slice(0, 12)}`,
    };
  }

  async whole(): Promise<object> {
    const { request, prompts } = this.parts;
    const all = await Promise.all(prompts.map(async ({ answers }) => Promise.all(answers.map(finished))));
    const chosen = all.flatMap((answers, index) =>
      best(answers, request.n ?? 1).map((answer) => ({ answer, before: request.echo === true ? prompts[index]!.text : "" })),
    );
    const choices = chosen.map(({ answer: { text, tokens, stats }, before }, index) => ({
      index,
      text: before + text,
      logprobs: this.logprobs(tokens, 0),
      finish_reason: finishReason(stats),
    }));
    return {
      ...this.head,
      choices,
      usage: this.usage(all.map((answers) => answers.map(({ stats }) => stats))),
      ...this.ending(all[0]![0]!.stats),
    };
  }

  async stream(send: Send): Promise<void> {
    const { request, prompts } = this.parts;
    const withUsage = request.stream_options?.include_usage === true;
    const chunk = (choices: readonly object[], more: object = {}) =>
      send({ ...this.head, choices, ...(withUsage && { usage: null }), ...more });
    const each = prompts.flatMap(({ text, answers }) => answers.map((answer) => ({ text, answer })));
    const stats = await Promise.all(
      each.map(async ({ text: before, answer }, index) => {
        const shown = new ShownTokens();
        let length = 0;
        const say = (text: string, tokens: readonly GeneratedToken[]) => {
          chunk([{ index, text, logprobs: this.logprobs(tokens, length), finish_reason: null }]);
          length += text.length;
        };
        if (request.echo === true) say(before, []);
        for await (const token of answer) {
          const tokens = shown.push(token);
          if (token.text !== "") say(token.text, tokens);
        }
        const stats = await answer.stats;
        chunk(
          [{ index, text: "", logprobs: this.logprobs(shown.end(stats.finish), length), finish_reason: finishReason(stats) }],
          index === 0 ? this.ending(stats) : {},
        );
        return stats;
      }),
    );
    let at = 0;
    if (withUsage) chunk([], { usage: this.usage(prompts.map(({ answers }) => stats.slice(at, (at += answers.length)))) });
    send("[DONE]");
  }

  private logprobs(tokens: readonly GeneratedToken[], offset: number) {
    if (this.parts.request.logprobs == null) return null;
    const { tokenizer } = this.parts.model;
    const texts = tokens.map(({ id }) => tokenText(id, tokenizer));
    let at = offset;
    return {
      tokens: texts,
      token_logprobs: tokens.map(({ logprob }) => logprob),
      top_logprobs: tokens.map(({ top = [] }) => Object.fromEntries(top.map(({ id, logprob }) => [tokenText(id, tokenizer), logprob]))),
      text_offset: texts.map((text) => (at += text.length) - text.length),
    };
  }

  private usage(prompts: readonly (readonly GenerationStats[])[]) {
    const each = prompts.map(usageOf);
    const sum = (of: (usage: ReturnType<typeof usageOf>) => number) => each.reduce((total, usage) => total + of(usage), 0);
    return {
      prompt_tokens: sum((usage) => usage.prompt_tokens),
      completion_tokens: sum((usage) => usage.completion_tokens),
      total_tokens: sum((usage) => usage.total_tokens),
      prompt_tokens_details: { cached_tokens: sum((usage) => usage.prompt_tokens_details.cached_tokens) },
    };
  }

  private ending(stats: GenerationStats) {
    const { prompts, warnings } = this.parts;
    return { kvsplice: costOf(prompts[0]!.prompt, stats), ...(warnings.length > 0 && { warnings }) };
  }
}

async function finished(answer: StartedAnswer): Promise<Finished> {
  const shown = new ShownTokens();
  const tokens: GeneratedToken[] = [];
  let text = "";
  for await (const token of answer) {
    text += token.text;
    tokens.push(...shown.push(token));
  }
  const stats = await answer.stats;
  tokens.push(...shown.end(stats.finish));
  return { text, tokens, stats };
}

/** The answers whose tokens are likeliest on average, best first. */
function best(answers: readonly Finished[], count: number): readonly Finished[] {
  if (answers.length === count) return answers;
  const likelihood = ({ tokens }: Finished) => tokens.reduce((sum, { logprob = 0 }) => sum + logprob, 0) / Math.max(1, tokens.length);
  return answers.toSorted((a, b) => likelihood(b) - likelihood(a)).slice(0, count);
}
