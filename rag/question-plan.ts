import type { Model, ModelCard } from "../engine/index.js";
import { type BlockSource, KvspliceError, type Plan, PlanWriter, type Tokenizer } from "../plan/index.js";

/** The text whose tokens are a document's block. It has no index: the block must fit anywhere in any prompt. */
export function renderDocument(card: ModelCard, title: string, text: string): string {
  const values = { title, text };
  return card.prompt.document.replace(/\{(title|text)\}/g, (_, name: keyof typeof values) => values[name]);
}

/** What documents are encoded with. */
export type DocumentEncoder = Pick<Model, "tokenizer" | "card" | "encodingAdapter">;

/**
 * A rendered document as the model encodes it: by itself, or after the prompt's system text and the card's example, and with
 * the model's encoding adapter if it has one, which was trained that way.
 */
export function documentSource({ tokenizer, card, encodingAdapter }: DocumentEncoder, tokens: readonly number[]): BlockSource {
  const behind = encodingAdapter !== undefined || card.behindSystem !== false;
  return {
    tokens,
    ...(behind && { after: tokensBefore(tokenizer, card) }),
    ...(encodingAdapter !== undefined && { adapted: true as const }),
  };
}

function tokensBefore(tokenizer: Tokenizer, card: ModelCard): number[] {
  const system = tokenizer.encode(card.prompt.system, { control: true });
  return card.example ? [...system, ...tokenizer.encode(renderDocument(card, card.example.title, card.example.text))] : system;
}

/**
 * Lays out one question over documents, as in KVLink (Yang et al. 2025): system, (document, its link tokens) ...,
 * question. System and documents are blocks, side by side without gaps; the first block sees only itself in any case.
 *
 *     const document = model.tokenizer.encode(renderDocument(model.card, "Gull Point", text));
 *     const answer = model.generate(layOut(model, "Who kept the lighthouse?", [document]), { store });
 *
 * @param documents token ids of the rendered documents, in the order of the prompt
 * @throws KvspliceError `bad_argument` for link tokens that the model does not have, `too_long` if the prompt and an
 *   answer do not fit into the context
 */
export function layOut(
  model: DocumentEncoder & Pick<Model, "contextLength">,
  question: string,
  documents: readonly (readonly number[])[],
  linkTokens: number = model.card.linkTokens.default,
): Plan {
  const { tokenizer, card } = model;
  const system = tokenizer.encode(card.prompt.system, { control: true });
  const links = linkTokensOf(model, linkTokens);
  const asked = questionTokens(tokenizer, card.prompt.question, question);

  const writer = new PlanWriter().block({ tokens: system });
  for (const tokens of documents) writer.block(documentSource(model, tokens), { loose: true }).fresh(links);
  writer.fresh(asked, { asks: true });
  checkLength(model, asked.length, writer.at);
  return writer.plan;
}

/**
 * Ids of the first `count` link tokens that the model was trained with; by default as many as measured best.
 * @throws KvspliceError `bad_argument` for more than the model has
 */
export function linkTokensOf({ tokenizer, card }: Pick<Model, "tokenizer" | "card">, count: number = card.linkTokens.default): number[] {
  const most = card.linkTokens.tokens.length;
  if (!Number.isInteger(count) || count < 0 || count > most) {
    throw new KvspliceError("bad_argument", `The model has link tokens 0 to ${most} after a document, not ${count}.`);
  }
  return card.linkTokens.tokens.slice(0, count).flatMap((token) => tokenizer.encode(token, { control: true }));
}

/**
 * Tokens of the template with the question inserted. The template's control tokens are control; those spelled out in the
 * question stay text. The plain text next to the question is encoded together with it, because a word and the space
 * before it are one token.
 */
export function questionTokens(tokenizer: Tokenizer, template: string, question: string): number[] {
  const [before = "", after = ""] = template.split("{question}");
  const opening = tokenizer.encode(before, { control: true });
  const closing = tokenizer.encode(after, { control: true });
  const isControl = (id: number) => tokenizer.decode([id]) === "";
  const start = opening.findLastIndex(isControl) + 1;
  const firstControl = closing.findIndex(isControl);
  const end = firstControl < 0 ? closing.length : firstControl;
  const touching = tokenizer.decode(opening.slice(start)) + question + tokenizer.decode(closing.slice(0, end));
  return [...opening.slice(0, start), ...tokenizer.encode(touching), ...closing.slice(end)];
}

function checkLength({ contextLength, card }: Pick<Model, "contextLength" | "card">, question: number, total: number) {
  if (question > contextLength - card.maxAnswerTokens) {
    throw new KvspliceError(
      "too_long",
      `The question takes ${question} tokens and the answer up to ${card.maxAnswerTokens}, but the model's context ` +
        `holds ${contextLength}; ask a shorter question.`,
    );
  }
  if (total > contextLength - card.maxAnswerTokens) {
    throw new KvspliceError(
      "too_long",
      `Documents and question take ${total} tokens and the answer up to ${card.maxAnswerTokens}, but the model's ` +
        `context holds ${contextLength}; use fewer documents (a lower top-k).`,
    );
  }
}
