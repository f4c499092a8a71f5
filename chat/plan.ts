import { type ChatTemplate, type Plan, PlanWriter, type Tokenizer } from "../plan/index.js";
import { exchangesOf, type Message } from "./message.js";
import { answerTokens, chatPhrasing } from "./phrasing.js";

/**
 * The prompt of a single chat request, for programs that keep conversations themselves: the opening (system message and
 * tools) is a block, and everything after it is computed.
 *
 *     const plan = chatPlan([{ role: "user", content: "Name three lighthouses." }], model);
 *     for await (const { text } of model.generate(plan)) process.stdout.write(text);
 *
 * @param messages the last one is answered, or continued if it is the assistant's
 */
export function chatPlan(
  messages: readonly Message[],
  { tokenizer, chat }: { readonly tokenizer: Tokenizer; readonly chat: ChatTemplate },
): Plan {
  const phrasing = chatPhrasing(tokenizer, chat);
  const exchanges = exchangesOf(messages);
  const tokens = exchanges.flatMap((exchange, i) => [
    ...(i === 0 ? [] : phrasing.afterAnswer),
    ...phrasing.ask(exchange.asked, { first: i === 0 }).flat(),
    ...phrasing.begin,
    ...answerTokens(exchange, tokenizer),
  ]);
  const opening = phrasing.openingTokens(exchanges[0]?.asked ?? []);
  return new PlanWriter().block({ tokens: tokens.slice(0, opening) }).fresh(tokens.slice(opening)).plan;
}
