import { readFile } from "node:fs/promises";
import { type ChatTemplate, KvspliceError } from "../../plan/index.js";
import { isLink } from "../link/link.js";

/**
 * What a model was trained to be asked like: data beside the GGUF, `NAME.json` for `NAME.gguf`.
 *
 * The default model answers best with 0 link tokens (models/NOTICE.md has the measurement), so its card says 0.
 */
export type ModelCard = {
  /** Text with control tokens; `{title}`, `{text}` and `{question}` are filled in. */
  readonly prompt: { readonly system: string; readonly document: string; readonly question: string };
  /** Trained tokens that may follow a document, in order, and how many do unless the caller says otherwise. */
  readonly linkTokens: { readonly tokens: readonly string[]; readonly default: number };
  /** Length of the chunks that documents are split into, in tokens: what the model answers best over. */
  readonly chunkTokens: number;
  /** The longest document that the model was trained on, in tokens, its template included. */
  readonly maxDocumentTokens: number;
  readonly maxAnswerTokens: number;
  /** How documents are linked unless somebody says otherwise, as `parseLink` reads it; `0.15` when left out. */
  readonly link?: string;
  /**
   * Whether documents are encoded behind the prompt's system text, which they see then; they are when left out. A model
   * that was trained on documents that stand alone wants them alone.
   */
  readonly behindSystem?: boolean;
  /** Texts that end an answer over documents; none when left out. */
  readonly stop?: readonly string[];
};

/** The card beside the model, or one made of its chat template where there is none. */
export async function readCard(modelPath: string, chat: ChatTemplate): Promise<ModelCard> {
  return (await cardAt(modelPath.replace(/\.gguf$/, "") + ".json")) ?? (chat.stop.length > 0 ? plainCard(chat) : defaultCard(chat));
}

/**
 * The card of a file; undefined where there is none.
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
    throw new KvspliceError("bad_model", `${path} is not JSON. Mend it, or remove it to use the model's chat template.`, { cause });
  }
  const missing = missingField(card as Partial<ModelCard>);
  if (missing) throw new KvspliceError("bad_model", `${path} lacks ${missing}. models/kvsplice-135m.json shows a whole one.`);
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
  if (card.stop !== undefined && !Array.isArray(card.stop)) return "stop as a list";
  return undefined;
}

/** For a model that was not trained to chat: documents, then questions and answers a line each, as texts have them. */
function plainCard(chat: ChatTemplate): ModelCard {
  return {
    ...defaultCard(chat),
    prompt: {
      system: `${chat.frame("system", undefined).open}Short answers to questions about the documents below.\n\n`,
      document: "Title: {title}\n{text}\n\n",
      question: "Question: {question}\nAnswer:",
    },
    maxAnswerTokens: 64,
    stop: ["\n"],
  };
}

/** For a model that was trained to chat. It is asked for a short answer: docs/linking.md measures models with these words. */
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
  };
}
