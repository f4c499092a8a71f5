import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { scoreAnswer } from "../../rag/index.js";
import type { Question } from "./questions.js";

/** How many of the questions were answered through the commands, and how. */
export type CommandAnswers = {
  readonly asked: number;
  /** Answers of `ask`, and of `pml run` over the same documents, that contain the right answer. */
  readonly ask_right: number;
  readonly pml_right: number;
  /** The server's answers to the same question and PML prompt that equal the commands' word for word. */
  readonly served_as_ask: number;
  readonly served_as_pml: number;
};

const PROGRAM = join(import.meta.dirname, "../../dist/cli/main.js");

const SCHEMA = `<schema name="articles">
  <system>You answer questions from the given documents.</system>
  <user open="true">Documents:</user>
</schema>`;

/** Precomputes a corpus, which stores its model, and queries it with `ask`, with `pml run` over what `ask` found, and with a server for both. */
export async function askCommands(model: string, folder: string, corpus: string, questions: readonly Question[]): Promise<CommandAnswers> {
  if (questions.length === 0) return { asked: 0, ask_right: 0, pml_right: 0, served_as_ask: 0, served_as_pml: 0 };
  kvsplice("precompute", corpus, "--store", folder, "--model", model, "--json");
  const schemas = join(folder, "schemas");
  mkdirSync(schemas, { recursive: true });
  const [schema, prompt] = [join(schemas, "articles.pml"), join(folder, "prompt.pml")];
  writeFileSync(schema, SCHEMA);
  const asked = questions.map(({ question }) => {
    const { answer, sources } = kvsplice("ask", question, "--store", folder, "--json") as { answer: string; sources: { ref: string }[] };
    const documents = sources.map(({ ref }) => `<document ref=${JSON.stringify(ref)}/>`).reverse();
    const markup = `<prompt schema="articles">${documents.join("")}\nAnswer the question from the documents, in a few words.\nQuestion: ${question}</prompt>`;
    writeFileSync(prompt, markup);
    return {
      question,
      answer,
      markup,
      pml: (kvsplice("pml", "run", schema, prompt, "--corpus", folder, "--json") as { answer: string }).answer,
    };
  });
  const served = await serving(folder, schemas, async (complete) => {
    const answers: { corpus: string; pml: string }[] = [];
    for (const { question, markup } of asked) {
      answers.push({
        corpus: await complete({ corpus: true, messages: [{ role: "user", content: question }] }),
        pml: await complete({ schema: "articles", prompt: markup, messages: [] }),
      });
    }
    return answers;
  });
  const count = (is: (index: number) => boolean) => asked.filter((_, index) => is(index)).length;
  const isRight = (answer: string, index: number) => scoreAnswer(answer, questions[index]!.answers).contains > 0;
  return {
    asked: asked.length,
    ask_right: count((i) => isRight(asked[i]!.answer, i)),
    pml_right: count((i) => isRight(asked[i]!.pml, i)),
    served_as_ask: count((i) => served[i]!.corpus === asked[i]!.answer),
    served_as_pml: count((i) => served[i]!.pml === asked[i]!.pml),
  };
}

function kvsplice(...args: readonly string[]): unknown {
  const { stdout, stderr, status } = spawnSync(process.execPath, [PROGRAM, ...args], { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (status !== 0) throw new Error(`kvsplice ${args.join(" ")} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

type Complete = (request: object) => Promise<string>;

async function serving<T>(folder: string, schemas: string, use: (complete: Complete) => Promise<T>): Promise<T> {
  const child = spawn(process.execPath, [PROGRAM, "serve", "--store", folder, "--schemas", schemas, "--port", "0", "--json"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  try {
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    const { url } = JSON.parse(line.toString()) as { url: string };
    return await use(async (request) => {
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(request),
      });
      const completion = (await response.json()) as { choices?: { message: { content: string } }[] };
      if (!completion.choices) throw new Error(JSON.stringify(completion));
      return completion.choices[0]!.message.content;
    });
  } finally {
    child.kill("SIGTERM");
    await once(child, "exit");
  }
}
