import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";

import { z } from "zod";

import { KvspliceError } from "../../engine/index.js";

/** A document of a question. */
export type Passage = { readonly title: string; readonly text: string };

/** A question with its gold answers and the passages of its prompt. */
export type EvalQuestion = {
  readonly question: string;
  readonly answers: readonly string[];
  /** The gold passage among distractors, in the order of the prompt. */
  readonly documents: readonly Passage[];
};

/** How many questions to read, with how many documents each. */
export type ReadOptions = {
  /** Documents per question, including the gold one; 10 by default. A question with fewer distractors has fewer. */
  readonly documents?: number;
  /** Questions from the file's start; all by default. */
  readonly limit?: number | undefined;
  /** Changes the order of each question's documents; 0 by default. */
  readonly seed?: number;
};

const QUESTION = z.object({
  question: z.string().min(1),
  answers: z.array(z.string()).min(1),
  gold: z.string(),
  distractors: z.array(z.string()),
});
const PASSAGE = z.object({ id: z.string(), title: z.string(), text: z.string() });

const DEFAULT_DOCUMENTS = 10;

/**
 * Reads questions and the passages that they name by id, each from a `.jsonl` or `.jsonl.gz` with one object per line:
 *
 *     {"question": "...", "answers": ["...", ...], "gold": "<id>", "distractors": ["<id>", ...]}
 *     {"id": "...", "title": "...", "text": "..."}
 *
 * A question's documents are its gold passage and its first distractors. Their order is drawn from the question's
 * text and the seed, so that it is the same in every run, whatever other questions there are.
 *
 * @throws KvspliceError `bad_file` with file and line
 */
export async function readQuestions(questionsPath: string, passagesPath: string, options: ReadOptions = {}): Promise<EvalQuestion[]> {
  const { documents = DEFAULT_DOCUMENTS, limit = Number.POSITIVE_INFINITY, seed = 0 } = options;
  const drawn: { question: string; answers: string[]; ids: string[] }[] = [];
  for await (const { question, answers, gold, distractors } of readLines(questionsPath, QUESTION)) {
    if (drawn.length >= limit) break;
    drawn.push({
      question,
      answers,
      ids: shuffled([gold, ...distractors].slice(0, documents), seed === 0 ? question : `${seed} ${question}`),
    });
  }
  if (drawn.length === 0) throw new KvspliceError("bad_file", `${questionsPath} has no questions; give a file with one per line.`);

  const wanted = new Set(drawn.flatMap(({ ids }) => ids));
  const passages = new Map<string, Passage>();
  for await (const { id, title, text } of readLines(passagesPath, PASSAGE)) if (wanted.has(id)) passages.set(id, { title, text });
  return drawn.map(({ question, answers, ids }) => {
    const missing = ids.find((id) => !passages.has(id));
    if (missing !== undefined)
      throw new KvspliceError(
        "bad_file",
        `${passagesPath} has no passage ${missing}, which the question "${question}" names; give the passages that belong to the questions.`,
      );
    return { question, answers, documents: ids.map((id) => passages.get(id)!) };
  });
}

async function* readLines<T>(path: string, shape: z.ZodType<T>): AsyncGenerator<T> {
  const file = createReadStream(path);
  const bytes = path.endsWith(".gz") ? file.pipe(createGunzip()) : file;
  let number = 0;
  try {
    // A stream's error is not passed on to the stream that it is piped into.
    file.on("error", (error) => bytes.destroy(error));
    for await (const line of createInterface({ input: bytes, crlfDelay: Number.POSITIVE_INFINITY })) {
      number++;
      if (line.trim() !== "") yield shape.parse(JSON.parse(line));
    }
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll("\n", " ") : (cause as Error).message;
    throw new KvspliceError("bad_file", `${path}${number > 0 ? `:${number}` : ""} cannot be read: ${reason}`, { cause });
  } finally {
    file.destroy();
  }
}

/** Fisher-Yates shuffle with random numbers seeded by the seed's hash (xorshift). */
function shuffled<T>(items: readonly T[], seed: string): T[] {
  let state = createHash("sha256").update(seed).digest().readUInt32LE() || 1;
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
