import type { Role } from "../plan/index.js";

/** One message of a conversation, as its client keeps it. */
export type Message = { readonly role: Role; readonly content: string };

/** What is said between two answers, and the answer; the last exchange of a conversation has none yet. */
export type Exchange = { readonly asked: readonly Message[]; readonly answer?: string };

export function exchangesOf(messages: readonly Message[]): Exchange[] {
  const exchanges: Exchange[] = [];
  let asked: Message[] = [];
  for (const message of messages) {
    if (message.role !== "assistant") asked.push(message);
    else {
      exchanges.push({ asked, answer: message.content });
      asked = [];
    }
  }
  if (asked.length > 0) exchanges.push({ asked });
  return exchanges;
}
