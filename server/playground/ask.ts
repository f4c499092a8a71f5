import { Hono } from "hono";
import { z } from "zod";
import { readJson } from "../body.js";
import type { Environment } from "../environment.js";
import { ApiError, apiErrorOf, CLIENT_GONE } from "../error.js";
import { eventStream } from "../event-stream.js";
import { requestSignal } from "../request-signal.js";
import type { Service } from "../service.js";
import { markup, prepareMarkup } from "./markup.js";
import type { MarkupFiles } from "./markup-files.js";
import { encodeMissing } from "./missing.js";
import { prepareQuestion } from "./question.js";
import { race } from "./race.js";

const compare = z.boolean().default(true);

const request = z.union([
  z.strictObject({ corpus: z.string(), question: z.string(), top_k: z.number().int(), link_tokens: z.number().int(), compare }),
  z.strictObject({ markup, compare }),
]);

/** `POST /playground/api/ask`: a question, or a prompt in PML, as a stream of `AskEvent`s. */
export function askRoutes(service: Service, folder: MarkupFiles): Hono<Environment> {
  return new Hono<Environment>().post("/playground/api/ask", async (c) => {
    const asked = await readJson(c, request);
    const leave = service.waiting.enter();
    const ending = requestSignal(c.req.raw.signal, service.limits.request_ms);
    const finish = () => {
      leave();
      ending.dispose();
    };
    try {
      const { signal } = ending;
      const { plan, runners } =
        "markup" in asked
          ? await prepareMarkup(asked.markup, service, folder)
          : await prepareQuestion({ text: asked.question, topK: asked.top_k, linkTokens: asked.link_tokens }, corpusOf(asked.corpus, service), service, signal);
      const runs = asked.compare ? runners : runners.slice(0, 1);
      return eventStream(async (send) => {
        try {
          send(plan);
          const start = performance.now();
          const encoded = await encodeMissing(runners[0].plan, service, signal);
          const tokens = encoded.reduce((sum, block) => sum + block.tokens.length, 0);
          if (tokens > 0) send({ type: "encoded", tokens, ms: performance.now() - start });
          for await (const event of race(runs, service, signal)) {
            if (event.type === "token") leave();
            send(event);
          }
        } catch (error) {
          const { status, message } = apiErrorOf(ending.explain(error));
          if (status === CLIENT_GONE) service.metrics.hangUp();
          else c.var.log.error({ err: error, status }, "an answer broke off");
          send({ type: "error", message });
        } finally {
          finish();
        }
      });
    } catch (error) {
      finish();
      throw ending.explain(error);
    }
  });
}

function corpusOf(name: string, { corpus, corpusName }: Service) {
  if (name === corpusName) return corpus;
  throw new ApiError(404, `There is no corpus of this name; this server has '${corpusName}'.`, { param: "corpus", code: "corpus_not_found" });
}
