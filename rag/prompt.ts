import type { Model, ModelCard } from "../engine/index.js";
import { type BlockSource, KvspliceError, type Plan, PlanWriter, type Tokenizer } from "../plan/index.js";

/** The text whose tokens are a document's block. It has no index: the block must fit any place of any prompt. */
export function renderDocument(card: ModelCard, title: string, text: string): string {
  const values = { title, text };
  return card.prompt.document.replace(/\{(title|text)\}/g, (_, name: keyof typeof values) => values[name]);
}

/** What documents are encoded with. */
export type DocumentEncoder = Pick<Model, "tokenizer" | "card" | "encodingAdapter">;

/**
 * A rendered document as the model encodes it: alone, or behind the prompt's system text, and with the model's encoding
 * adapter where it has one, which was trained behind that text.
 */
export function documentSource({ tokenizer, card, encodingAdapter }: DocumentEncoder, tokens: readonly number[]): BlockSource {
  const behind = encodingAdapter !== undefined || card.behindSystem !== false;
  return { tokens, ...(behind && { after: tokenizer.encode(card.prompt.system, { control: true }) }), ...(encodingAdapter !== undefined && { adapted: true as const }) };
}

/**
 * Lays out one question over documents, as KVLink does (Yang et al. 2025): system, (document, its link tokens) ...,
 * question. System and documents are blocks, side by side without gaps; a first block sees only itself in any case.
 *
 * @param documents token ids of the rendered documents, in the order of the prompt
 * @throws KvspliceError `bad_argument` for link tokens that the model does not have, `too_long` where the context
 *   does not hold the prompt and an answer
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
 * Ids of the first `count` tokens that the model was trained to have after a document; what measured best by default.
 * @throws KvspliceError `bad_argument` for more than it has
 */
export function linkTokensOf({ tokenizer, card }: Pick<Model, "tokenizer" | "card">, count: number = card.linkTokens.default): number[] {
  const most = card.linkTokens.tokens.length;
  if (!Number.isInteger(count) || count < 0 || count > most) {
    throw new KvspliceError("bad_argument", `The model has link tokens 0 to ${most} after a document, not ${count}.`);
  }
  return card.linkTokens.tokens.slice(0, count).flatMap((token) => tokenizer.encode(token, { control: true }));
}

/**
 * Tokens of the template with the question in its place. The template's control tokens are control; those that the
 * question spells out stay text. The plain text that touches the question is encoded together with it, because a word
 * and the space before it are one token.
 */
function questionTokens(tokenizer: Tokenizer, template: string, question: string): number[] {
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
        `context holds ${contextLength}; ask over fewer documents (a lower top-k).`,
    );
  }
}
