import { readdirSync, readFileSync } from "node:fs";
import type { Language, Plan } from "../../engine/index.js";
import { compilePrompt, layoutSchema, module, prompt, schema, system } from "../../pml/index.js";
import { linkTokensOf } from "../../rag/index.js";

/** One prompt in the form that every peer gets: the same tokens at the same positions. */
export type Workload = {
  readonly name: string;
  readonly plan: Plan;
  readonly documents: number;
  readonly tokens: number;
  /** Tokens after the documents. */
  readonly fresh: number;
};

/** The texts of examples/corpus, one after another, without headings. */
export function corpusWords(): string[] {
  const folder = new URL("../../examples/corpus/", import.meta.url);
  const files = readdirSync(folder)
    .filter((name) => /\.(md|txt)$/.test(name))
    .sort();
  return files.flatMap((name) =>
    readFileSync(new URL(name, folder), "utf8")
      .replace(/^---.*?---/s, "")
      .replace(/^#.*$/gm, "")
      .split(/\s+/)
      .filter(Boolean),
  );
}

const QUESTION = "Which of these bridges was the first to be built of steel, and who designed it?";

export function workloads({ tokenizer, chat, card }: Language) {
  const words = corpusWords();
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const render = (title: string, text: string) =>
    tokenizer.encode(card.prompt.document.replace("{title}", title).replace("{text}", () => text));
  const beginning = control(card.prompt.system);
  const question = control(card.prompt.question.replace("{question}", QUESTION));

  const over = (
    name: string,
    documents: readonly (readonly number[])[],
    { after = question, links = 0 }: { after?: readonly number[]; links?: number } = {},
  ): Workload => {
    const pieces: Plan["pieces"][number][] = [{ block: { tokens: beginning }, at: 0 }];
    const linkTokens = linkTokensOf({ tokenizer, card }, links);
    let at = beginning.length;
    for (const tokens of documents) {
      pieces.push({ block: { tokens }, at });
      at += tokens.length;
      if (links > 0) pieces.push({ tokens: linkTokens, at });
      at += links;
    }
    pieces.push({ tokens: after, at });
    return {
      name,
      plan: { pieces },
      documents: documents.length,
      tokens: at + after.length,
      fresh: after.length + links * documents.length,
    };
  };

  /** Documents of exactly 130 tokens, each beginning at a different place in the texts. */
  const short = Array.from({ length: 40 }, (_, i) => render(`Document ${i}`, words.slice(i * 180, i * 180 + 200).join(" ")).slice(0, 130));
  const long = (count: number, length: number) =>
    Array.from({ length: count }, (_, i) => render(`Chapter ${i}`, words.slice(i * length, (i + 1) * length).join(" ")));

  return {
    /** A number of documents of 130 tokens, and a question. */
    documents: (count: number, links = 0) =>
      over(
        `${count} document${count === 1 ? "" : "s"} of 130 tokens${links > 0 ? `, ${links} link token${links > 1 ? "s" : ""} each` : ""}`,
        short.slice(0, count),
        { links },
      ),
    /** The same in another order. */
    reordered: (count: number) => over(`${count} documents, another order`, [...short.slice(1, count), short[0]!]),
    /** The same documents and another question. */
    asked: (count: number) =>
      over(`${count} documents, another question`, short.slice(0, count), {
        after: control(
          card.prompt.question.replace("{question}", "When did the first train cross the bridge, and how long did the journey take?"),
        ),
      }),
    /** A text that the model continues without ending: the beginning of a further document. */
    continued: (count: number) => over(`${count} documents, continued`, short.slice(0, count), { after: short[39]!.slice(0, 60) }),
    /** A number of documents with a given number of words. */
    long: (count: number, length: number) => over(`${count} documents of ${length.toLocaleString("en")} words`, long(count, length)),
    /** Modules of a schema of 2,000 tokens in total, and 100 new tokens. */
    schema: schemaPrompt,
  };

  function schemaPrompt(): Workload {
    const modules: ReturnType<typeof module>[] = [];
    const text = (i: number) => words.slice(i * 100, i * 100 + 100).join(" ");
    const layoutOf = () =>
      layoutSchema(schema("manual", system("You answer questions from the given documents."), ...modules), { tokenizer, chat }).layout!;
    while (layoutOf().length < SCHEMA_TOKENS) modules.push(module(`m${modules.length}`, text(modules.length)));
    let length = 1;
    const promptOf = () => prompt("manual", Object.fromEntries(modules.map(({ name }) => [name, true])), words.slice(-length).join(" "));
    const compiledOf = () => compilePrompt(layoutOf(), promptOf()).compiled!;
    while (compiledOf().computedTokens < NEW_TOKENS) length++;
    const { plan, cachedTokens, computedTokens } = compiledOf();
    return {
      name: `PML schema of ${cachedTokens.toLocaleString("en")} tokens, ${computedTokens} new`,
      plan,
      documents: modules.length,
      tokens: cachedTokens + computedTokens,
      fresh: computedTokens,
    };
  }
}

const SCHEMA_TOKENS = 2_000;
const NEW_TOKENS = 100;

/**
 * The same prompt shifted by a number of positions: the attention is the same, since rotary positions are relative. The
 * engine keeps the last prompts' spliced KV, so a prompt at the same positions would be measured without its splice.
 */
export function shifted(plan: Plan, positions: number): Plan {
  return { pieces: plan.pieces.map((piece) => ({ ...piece, at: piece.at + positions })) };
}
