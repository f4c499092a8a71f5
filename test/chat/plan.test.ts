import { beforeAll, expect, test } from "vitest";
import { chatPlan } from "../../chat/index.js";
import { isBlockPiece, type Language, loadTokenizer, type Role, tokensOf } from "../../engine/index.js";

type Message = { readonly role: Role; readonly content: string };

let language: Language;
beforeAll(async () => {
  language = await loadTokenizer();
});

/** Messages as the chat template renders them. */
function templated(messages: readonly Message[]): number[] {
  const { tokenizer, chat } = language;
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const said = messages.flatMap(({ role, content }, i) => {
    const { open, close } = chat.frame(role, messages[i - 1]?.role);
    return [...control(open), ...tokenizer.encode(chat.content(role, content)), ...control(close)];
  });
  return [...said, ...control(chat.generationPrompt)];
}

const system: Message = { role: "system", content: "Be brief." };
const talk: Message[] = [
  { role: "user", content: "Hello" },
  { role: "assistant", content: "Good day." },
  { role: "user", content: "How long is the bridge?" },
];

test.each([[[system, ...talk]], [talk], [talk.slice(0, 1)]])(
  "a chat's plan has the tokens of its template, and begins with a block (%#)",
  (messages) => {
    const plan = chatPlan(messages, language);
    expect(tokensOf(plan)).toEqual(templated(messages));
    expect(plan.pieces.map(isBlockPiece)).toEqual([true, false]);
  },
);

test("chats with one system message share their opening", () => {
  const [one, other] = [chatPlan([system, ...talk], language), chatPlan([system, { role: "user", content: "Bye" }], language)];
  expect(one.pieces[0]).toEqual(other.pieces[0]);
});
