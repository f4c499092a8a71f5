import type { Framed, Role } from "../plan/index.js";

/** One message of a conversation, as the client has it; `written` if the template does not write it as its role's content. */
export type Message =
  | { readonly role: Role; readonly content: string; readonly written?: Framed }
  | { readonly role: "tool"; readonly content: string; readonly written: Framed };

/** The messages between two answers, and the answer; a conversation's last exchange has none yet, or the beginning to be continued. */
export type Exchange = { readonly asked: readonly Message[]; readonly answer?: string; readonly written?: Framed | undefined };

export function exchangesOf(messages: readonly Message[]): Exchange[] {
  const exchanges: Exchange[] = [];
  let asked: Message[] = [];
  for (const message of messages) {
    if (message.role !== "assistant") asked.push(message);
    else {
      exchanges.push({ asked, answer: message.content, written: message.written });
      asked = [];
    }
  }
  if (asked.length > 0) exchanges.push({ asked });
  return exchanges;
}
