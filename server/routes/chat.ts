import { Hono } from "hono";
import { giveAffinity } from "../affinity.js";
import { type AnswerOptions, nth, startAnswer } from "../answer.js";
import { readBody } from "../body.js";
import { ChatCompletion } from "../chat-completion.js";
import { clientOf } from "../client.js";
import type { Environment } from "../environment.js";
import { originOf } from "../origin.js";
import { overCorpus } from "../over-corpus.js";
import { prepareRequest } from "../prepare.js";
import { chatRequest } from "../requests/chat.js";
import { samplingOf } from "../requests/sampling.js";
import { warningsOf } from "../requests/warnings.js";
import { respondFrom } from "../respond.js";
import type { Shared } from "../service.js";
import { sourceList, sourcesOf } from "../sources.js";

/** `POST /v1/chat/completions` (https://platform.openai.com/docs/api-reference/chat) */
export function chatRoutes(shared: Shared): Hono<Environment> {
  const { strict = false } = shared;
  const schema = chatRequest(strict);
  return new Hono<Environment>().post("/v1/chat/completions", async (c) => {
    const body = await readBody(c, schema);
    const request = overCorpus(body.request, c.var.offers);
    const offer = c.var.offers.find({ model: request.model, corpus: request.corpus?.name });
    const conversation = shared.affinity ? giveAffinity(c, offer) : undefined;
    const count = request.n ?? 1;
    return respondFrom(
      c,
      shared,
      offer,
      { answers: count, stream: request.stream === true },
      async ({ service, signal, arrived, leave, notice }) => {
        const { model, limits } = service;
        const prompt = await prepareRequest(request, service, {
          client: clientOf(c.req.header("authorization"), request),
          conversation,
          signal,
        });
        const sources = sourcesOf(prompt.citations, originOf(c));
        const list = request.citations === true && sources.length > 0 && !prompt.grammar ? sourceList(sources) : undefined;
        const options: AnswerOptions = {
          ...samplingOf(request),
          cached: request.cache_prompt !== false,
          appended: list?.text ?? "",
          signal,
          arrived,
          log: c.var.log,
          onElsewhere: (tokens: number) => notice(`waiting: ${tokens} tokens of a document are being encoded elsewhere`),
          ...(c.var.client && { client: c.var.client }),
        };
        const answers = await Promise.all(
          Array.from({ length: count }, (_, index) =>
            startAnswer({ ...prompt, turn: index === 0 ? prompt.turn : prompt.turn?.again() }, service, nth(options, index)),
          ),
        );
        leave();
        return new ChatCompletion({
          request,
          prompt,
          sources,
          ...(list && { list }),
          answers,
          warnings: [...warningsOf(request, body.unread, limits.contextTokens), ...(prompt.warnings ?? [])],
          model,
        });
      },
    );
  });
}
