import { Hono } from "hono";
import { giveAffinity } from "../affinity.js";
import { startAnswer } from "../answer.js";
import { readBody } from "../body.js";
import { clientOf } from "../client.js";
import type { Environment } from "../environment.js";
import { ApiError } from "../error.js";
import { originOf } from "../origin.js";
import { overCorpus } from "../over-corpus.js";
import { prepareRequest } from "../prepare.js";
import type { RequestMessage } from "../requests/message.js";
import { type InputItem, responsesRequest } from "../requests/responses.js";
import { samplingOf } from "../requests/sampling.js";
import { warningsOf } from "../requests/warnings.js";
import { respondFrom } from "../respond.js";
import { type OutputItem, ResponseWriter } from "../response.js";
import { ResponseStore } from "../response-store.js";
import type { Shared } from "../service.js";
import { sourceList, sourcesOf } from "../sources.js";

/** OpenAI's name for requesting log probabilities. */
const LOGPROBS = "message.output_text.logprobs";

/** `POST /v1/responses`, and stored responses by id (https://platform.openai.com/docs/api-reference/responses). */
export function responseRoutes(shared: Shared): Hono<Environment> {
  const { strict = false } = shared;
  const schema = responsesRequest(strict);
  const kept = new ResponseStore(shared.sharedConversations);
  return new Hono<Environment>()
    .post("/v1/responses", async (c) => {
      const body = await readBody(c, schema);
      const before =
        body.request.previous_response_id == null
          ? []
          : (await kept.response(body.request.previous_response_id, "previous_response_id")).messages;
      const messages = joined([...before, ...(await messagesOf(body.request.input, kept))]);
      if (!messages.some(({ role }) => role === "user"))
        throw new ApiError(400, "Invalid value for 'input': expected a message from the user to answer.", {
          param: "input",
          code: "invalid_value",
        });
      const request = overCorpus({ ...body.request, messages }, c.var.offers);
      const offer = c.var.offers.find({ model: request.model, corpus: request.corpus?.name });
      const conversation = shared.affinity ? giveAffinity(c, offer) : undefined;
      return respondFrom(c, shared, offer, { stream: request.stream === true }, async ({ service, signal, arrived, leave, notice }) => {
        const { model, limits } = service;
        const instructions: RequestMessage[] = request.instructions ? [{ role: "system", content: request.instructions }] : [];
        const asked = {
          messages: [...instructions, ...messages],
          stop: [],
          max_tokens: request.max_output_tokens,
          response_format: request.text?.format,
        };
        const prompt = await prepareRequest({ ...request, ...asked }, service, {
          client: clientOf(c.req.header("authorization"), request),
          conversation,
          signal,
        });
        const sources = sourcesOf(prompt.citations, originOf(c));
        const list = request.citations === true && sources.length > 0 && !prompt.grammar ? sourceList(sources) : undefined;
        const logprobs = request.top_logprobs != null || request.include?.includes(LOGPROBS) === true;
        const sampling = samplingOf({ ...request, logprobs });
        const begun = await startAnswer(prompt, service, {
          ...sampling,
          cached: request.cache_prompt !== false,
          appended: list?.text ?? "",
          signal,
          arrived,
          log: c.var.log,
          onElsewhere: (tokens: number) => notice(`waiting: ${tokens} tokens of a document are being encoded elsewhere`),
          ...(c.var.client && { client: c.var.client }),
        });
        leave();
        const keep = async (body: { readonly id: string }, items: readonly OutputItem[]) => {
          if (request.store !== false)
            await kept.keep(
              { body, messages: joined([...messages, ...items.map(messageOf)]) },
              items.map((item) => [item.id, messageOf(item)]),
            );
        };
        return new ResponseWriter({
          request,
          prompt,
          sources,
          ...(list && { list }),
          answer: begun,
          warnings: [...warningsOf(request, body.unread, limits.contextTokens), ...(prompt.warnings ?? [])],
          model,
          keep,
        });
      });
    })
    .get("/v1/responses/:id", async (c) => c.json((await kept.response(c.req.param("id"), "id")).body))
    .delete("/v1/responses/:id", async (c) => {
      const { id } = (await kept.response(c.req.param("id"), "id")).body;
      await kept.delete(id);
      return c.json({ id, object: "response", deleted: true });
    });
}

/** Items as messages of a chat, without a model's reasoning. */
async function messagesOf(items: readonly InputItem[], kept: ResponseStore): Promise<RequestMessage[]> {
  const each = items.map(async (item): Promise<RequestMessage[]> => {
    switch (item.type) {
      case "message":
        return [{ role: item.role, content: item.content }];
      case "item_reference":
        return [await kept.item(item.id)];
      case "function_call":
        return [called(item)];
      case "function_call_output":
        return [{ role: "tool", tool_call_id: item.call_id, content: item.output }];
      case "reasoning":
        return [];
    }
  });
  return (await Promise.all(each)).flat();
}

function called({
  call_id: id,
  name,
  arguments: given,
}: {
  readonly call_id: string;
  readonly name: string;
  readonly arguments: string;
}): RequestMessage {
  return { role: "assistant", content: "", tool_calls: [{ id, type: "function", function: { name, arguments: given } }] };
}

/** An item of an answer as a message. */
function messageOf(item: OutputItem): RequestMessage {
  return item.type === "function_call" ? called(item) : { role: "assistant", content: item.content[0].text };
}

/** Joins an answer's text and calls, which are separate items, into one message. */
function joined(messages: readonly RequestMessage[]): RequestMessage[] {
  const joined: RequestMessage[] = [];
  for (const message of messages) {
    const last = joined.at(-1);
    if (last?.role !== "assistant" || message.role !== "assistant" || !message.tool_calls) joined.push(message);
    else joined[joined.length - 1] = { ...last, tool_calls: [...(last.tool_calls ?? []), ...message.tool_calls] };
  }
  return joined;
}
