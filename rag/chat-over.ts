import type { Model } from "../engine/index.js";
import { type Plan, PlanWriter, type Role } from "../plan/index.js";
import { type DocumentEncoder, documentSource, linkTokensOf, questionTokens } from "./question-plan.js";

/** Options for laying out a conversation over documents. */
export type ChatOverModel = DocumentEncoder & Pick<Model, "chat">;

type Message = { readonly role: Role; readonly content: string };

/** How a conversation's documents are joined. */
export type ChatOverOptions = {
  /** Link tokens after each document; by default the number that measured best for the model. */
  readonly linkTokens?: number;
};

/**
 * A conversation over documents as a plan, without memory of earlier turns: the caller passes the whole history. Questions
 * are phrased as in the model's card; a system message replaces the card's. The last message is the user's. For a
 * conversation without documents, use `chatPlan` of kvsplice/chat.
 *
 *     const history = [{ role: "user", content: "Who kept the light?" }, { role: "assistant", content: "Oda." }, { role: "user", content: "Since when?" }];
 *     const answer = corpus.generate(chatOver(model, history, await corpus.retrieve("Since when did Oda keep the light?")));
 *
 * @param documents best first, as `corpus.retrieve` returns them
 * @throws KvspliceError `bad_argument` for link tokens that the model does not have
 */
export function chatOver(
  model: ChatOverModel,
  history: readonly Message[],
  documents: readonly { readonly tokens: readonly number[] }[],
  { linkTokens }: ChatOverOptions = {},
): Plan {
  const { tokenizer, card, chat } = model;
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const begins = Math.max(
    0,
    history.findIndex(({ role }) => role !== "system"),
  );
  const writer = new PlanWriter().block({
    tokens: begins === 0 ? control(card.prompt.system) : instructed(model, history.slice(0, begins)),
  });
  const links = linkTokensOf(model, linkTokens);
  for (const { tokens } of documents.toReversed()) writer.block(documentSource(model, tokens), { loose: true }).fresh(links);
  const said = history.slice(begins).map(({ role, content }, index, all) => {
    // A question's text also opens its answer, and the system text opens the first question's turn.
    if (role === "assistant") return tokenizer.encode(content);
    const before = all[index - 1]?.role;
    const closing = before === "assistant" ? control(chat.frame("assistant", "user").close) : [];
    const opening = before === undefined ? [] : control(chat.frame("user", before).open);
    return [...closing, ...opening, ...questionTokens(tokenizer, card.prompt.question, content)];
  });
  return writer.fresh(said.slice(0, -1).flat()).fresh(said.at(-1) ?? [], { asks: true }).plan;
}

/** A program's own system messages, up to where the user's turn begins. */
function instructed({ tokenizer, chat }: ChatOverModel, instructions: readonly Message[]): number[] {
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const { open, close } = chat.frame("system", undefined);
  const text = instructions.map(({ content }) => content).join("\n");
  return [
    ...control(open),
    ...tokenizer.encode(chat.content("system", text)),
    ...control(close),
    ...control(chat.frame("user", "system").open),
  ];
}
