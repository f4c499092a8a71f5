import { readFile } from "node:fs/promises";
import { type ChatTemplate, KvspliceError } from "../../plan/index.js";
import { isLink } from "../link/link.js";

/**
 * The form of prompt that a model was trained on: data in a file next to the GGUF, `NAME.json` for `NAME.gguf`.
 *
 * The default model answers best with 0 link tokens (models/NOTICE.md has the measurement), so its card says 0.
 */
export type ModelCard = {
  /** Text with control tokens, in which `{title}`, `{text}` and `{question}` are filled in. */
  readonly prompt: { readonly system: string; readonly document: string; readonly question: string };
  /** Trained tokens that may follow a document, in order, and how many of them do by default. */
  readonly linkTokens: { readonly tokens: readonly string[]; readonly default: number };
  /** Length of the chunks that documents are split into, in tokens: the length that gives the best answers. */
  readonly chunkTokens: number;
  /** The longest document that the model was trained on, in tokens, including its template. */
  readonly maxDocumentTokens: number;
  readonly maxAnswerTokens: number;
  /** How documents are linked by default, in the form that `parseLink` reads; `0.15` if omitted. */
  readonly link?: string;
  /**
   * Whether documents are encoded after the prompt's system text, and so see it; true if omitted. A model trained on documents
   * that stand alone needs false.
   */
  readonly behindSystem?: boolean;
  /**
   * A document that precedes the others while they are encoded (and follows the system text, if `behindSystem`), so that none
   * of them is computed as the first of a prompt. No prompt contains it. docs/linking.md reports the gain.
   */
  readonly example?: { readonly title: string; readonly text: string };
  /** Texts that end an answer over documents; none if omitted. */
  readonly stop?: readonly string[];
};

/** The card next to the model, or one derived from its chat template if there is none. */
export async function readCard(modelPath: string, chat: ChatTemplate): Promise<ModelCard> {
  return (await cardAt(`${modelPath.replace(/\.gguf$/, "")}.json`)) ?? (chat.stop.length > 0 ? plainCard(chat) : defaultCard(chat));
}

/**
 * The card in a file; undefined if there is no such file.
 * @throws KvspliceError `bad_model` if it is not a card
 */
export async function cardAt(path: string): Promise<ModelCard | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch {
    return undefined;
  }
  let card: unknown;
  try {
    card = JSON.parse(text);
  } catch (cause) {
    throw new KvspliceError("bad_model", `${path} is not JSON. Fix it, or remove it to use the model's chat template.`, { cause });
  }
  const missing = missingField(card as Partial<ModelCard>);
  if (missing) throw new KvspliceError("bad_model", `${path} lacks ${missing}. models/kvsplice-135m.json is a complete example.`);
  return card as ModelCard;
}

function missingField(card: Partial<ModelCard>): string | undefined {
  if (typeof card.prompt?.system !== "string") return "prompt.system";
  if (!card.prompt.document?.includes("{text}")) return "prompt.document with {text}";
  if (!card.prompt.question?.includes("{question}")) return "prompt.question with {question}";
  if (!Array.isArray(card.linkTokens?.tokens)) return "linkTokens.tokens";
  if (typeof card.linkTokens.default !== "number") return "linkTokens.default";
  if (typeof card.chunkTokens !== "number") return "chunkTokens";
  if (typeof card.maxDocumentTokens !== "number") return "maxDocumentTokens";
  if (typeof card.maxAnswerTokens !== "number") return "maxAnswerTokens";
  if (card.link !== undefined && !(typeof card.link === "string" && isLink(card.link))) return "link as none, a share or head=N";
  if (card.example !== undefined && (typeof card.example.title !== "string" || typeof card.example.text !== "string"))
    return "example with title and text";
  if (card.stop !== undefined && !Array.isArray(card.stop)) return "stop as a list";
  return undefined;
}

/** For a model that was not trained to chat: documents, then questions and answers on one line each, as texts write them. */
function plainCard(chat: ChatTemplate): ModelCard {
  const { example: _, ...card } = defaultCard(chat);
  return {
    ...card,
    prompt: {
      system: `${chat.frame("system", undefined).open}Short answers to questions about the documents below.\n\n`,
      document: "Title: {title}\n{text}\n\n",
      question: "Question: {question}\nAnswer:",
    },
    maxAnswerTokens: 64,
    stop: ["\n"],
  };
}

/** For a model that was trained to chat. The prompt requests a short answer: docs/linking.md measures models with these words. */
function defaultCard(chat: ChatTemplate): ModelCard {
  const system = chat.frame("system", undefined);
  const user = chat.frame("user", "system");
  return {
    prompt: {
      system: `${system.open}You answer questions from the given documents.${system.close}${user.open}Documents:\n\n`,
      document: "Title: {title}\n{text}\n\n",
      question: `Answer the question from the documents. Give only the answer, in a few words.\nQuestion: {question}${user.close}${chat.generationPrompt}`,
    },
    linkTokens: { tokens: [], default: 0 },
    chunkTokens: 160,
    maxDocumentTokens: 400,
    maxAnswerTokens: 256,
    example: {
      title: "Lighthouse",
      text:
        "A lighthouse is a tower with a lamp and lenses at its top that guides ships at night. Most were built on headlands, on islands and on rocks, " +
        "and were tended by keepers who lived beside them. Since the 1980s nearly all of them work by themselves.",
    },
  };
}
