/**
 * A conversation over ten linked documents: what each turn computes if the earlier turns are found again, and if they are
 * computed again with each turn.
 *
 *     npx tsx bench/linking/turns.ts MODEL.gguf [--link 0.15] [--turns 4] [--answer 40]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ConversationRecords, Conversations, type Message } from "../../chat/index.js";
import { isBlockPiece, linkText, loadModel, openBlockStore, parseLink } from "../../engine/index.js";
import { layOut, splitDocument } from "../../rag/index.js";

const DOCUMENTS = 10;
const QUESTIONS = [
  "Who designed the Forth Bridge?",
  "Which of these bridges is the oldest, and why was it built there?",
  "How long did it take to build?",
  "Who paid for it?",
  "What became of it later?",
  "What is it made of?",
];

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    link: { type: "string", default: "0.15" },
    turns: { type: "string", default: "4" },
    answer: { type: "string", default: "40" },
  },
});
const link = parseLink(values.link);
const model = await loadModel(positionals[0] === undefined ? {} : { path: positionals[0] });
const { tokenizer, chat, card, contextLength } = model;
const control = (text: string) => tokenizer.encode(text, { control: true });

const folder = fileURLToPath(new URL("../../examples/corpus/", import.meta.url));
const names = readdirSync(folder)
  .filter((name) => name.endsWith(".md"))
  .sort((a, b) => Number(b.includes("bridge")) - Number(a.includes("bridge")));
const documents: (readonly number[])[] = [];
for (const name of names.slice(0, DOCUMENTS)) {
  const text = readFileSync(join(folder, name), "utf8");
  const [first] = await splitDocument(
    { path: name, title: name.replace(".md", ""), paragraphs: [{ text }] },
    { tokenizer, card, mostTokens: contextLength },
  );
  documents.push(first!.tokens);
}
const opening = layOut(model, "", documents).pieces.slice(0, -1);
const phrasing = {
  afterAnswer: control(chat.frame("assistant", "user").close),
  begin: [],
  ask(asked: readonly Message[], { first }: { readonly first: boolean }): number[][] {
    const last = layOut(model, asked.map(({ content }) => content).join("\n"), []).pieces.at(-1)!;
    return [[...(first ? [] : control(chat.frame("user", "assistant").open)), ...(isBlockPiece(last) ? [] : last.tokens)]];
  },
};

const rows: Record<string, string | number>[] = [];
const notes = mkdtempSync(join(tmpdir(), "kvsplice-turns-"));
for (const keys of ["say the link", "do not"]) {
  const store = openBlockStore({ memory: { budget: 2 ** 31 } });
  const records = ConversationRecords.open(join(notes, `${keys}.lmdb`), {
    maxTokens: 100_000,
    maxAge_ms: 86_400_000,
    forget: () => undefined,
  });
  const conversations = new Conversations({ tokenizer, chat, keyOf: model.keyOf.bind(model), contextTokens: contextLength, records });
  const messages: Message[] = [];
  await model.generate({ pieces: [...opening, { tokens: [1], at: contextLength - 1 }] }, { store, maxNewTokens: 1 }).text; // encodes the documents
  for (let turn = 0; turn < Number(values.turns); turn++) {
    messages.push({ role: "user", content: QUESTIONS[turn % QUESTIONS.length]! });
    const laid = conversations.continue(messages, {
      answerTokens: Number(values.answer),
      setting: { opening, phrasing, link: keys === "say the link" ? linkText(link) : undefined },
    });
    const generation = model.generate(laid.plan, {
      store,
      link,
      maxNewTokens: Number(values.answer),
      temperature: 0,
      stop: card.stop ?? [],
      keepAnswer: (tokens) => laid.keepAnswer(tokens),
    });
    const tokens: number[] = [];
    for await (const { id } of generation) if (id >= 0) tokens.push(id);
    const { computed_tokens, recomputed_tokens, cached_tokens, look_ms, first_token_ms, finish } = await generation.stats;
    const text = await generation.text;
    await laid.answered({ text, tokens, finish });
    messages.push({ role: "assistant", content: text });
    rows.push({
      keys,
      turn: turn + 1,
      prompt: cached_tokens + computed_tokens,
      recomputed: recomputed_tokens,
      "otherwise computed": computed_tokens - recomputed_tokens,
      "look ms": look_ms.toFixed(0),
      "first token ms": first_token_ms.toFixed(0),
      answer: text.slice(0, 40),
    });
  }
  await records.close();
  await store.close();
}
console.table(rows);
rmSync(notes, { recursive: true });
await model.close();
