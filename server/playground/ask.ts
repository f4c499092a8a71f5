import { Hono } from "hono";
import { z } from "zod";
import { readJson } from "../body.js";
import { clientOf } from "../client.js";
import type { Environment } from "../environment.js";
import { ApiError } from "../error.js";
import { chatRequest } from "../requests/chat.js";
import { respondFrom } from "../respond.js";
import type { Shared } from "../service.js";
import type { AskEvent } from "./events.js";
import { markup, prepareMarkup } from "./markup.js";
import type { MarkupFiles } from "./markup-files.js";
import { encodeMissing } from "./missing.js";
import { prepareQuestion } from "./question.js";
import { race } from "./race.js";

/** A question in the format of `/v1/chat/completions`, or a prompt in PML. `compare` also answers it with full prefill. */
const request = z.strictObject({ chat: chatRequest(true).optional(), markup: markup.optional(), compare: z.boolean().default(false) });

/** `POST /playground/api/ask`: answers a question or a prompt in PML with a stream of `AskEvent`s. */
export function askRoutes(shared: Shared, folder: MarkupFiles): Hono<Environment> {
  return new Hono<Environment>().post("/playground/api/ask", async (c) => {
    const { chat, markup, compare } = await readJson(c, request);
    if ((chat === undefined) === (markup === undefined))
      throw new ApiError(400, "Expected either chat or markup.", { param: "chat", code: "invalid_value" });
    const offer = c.var.offers.find({ model: chat?.model, corpus: chat?.corpus?.name });
    return respondFrom(c, shared, offer, { stream: true }, async ({ service, signal, arrived, leave }) => {
      const asker = { client: clientOf(c.req.header("authorization"), chat ?? {}), signal };
      const { plan, runners } = chat ? await prepareQuestion(chat, service, asker) : await prepareMarkup(markup!, service, folder, signal);
      const runs = compare ? runners : runners.slice(0, 1);
      return {
        whole: async () => ({}),
        failed: ({ message }) => ({ type: "error", message }) satisfies AskEvent,
        async stream(send) {
          send(plan);
          const start = performance.now();
          const encoded = await encodeMissing(runners[0].prompt.plan, service, signal);
          const tokens = encoded.reduce((sum, block) => sum + block.tokens.length, 0);
          if (tokens > 0) send({ type: "encoded", tokens, ms: performance.now() - start });
          for await (const event of race(runs, service, { signal, arrived, log: c.var.log })) {
            if (event.type === "token") leave();
            send(event);
          }
        },
      };
    });
  });
}
