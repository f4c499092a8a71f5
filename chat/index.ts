/**
 * Conversations over the engine: messages -> plan, so that each turn computes what is new alone.
 *
 *     const records = Records.open("my.kv/conversations.lmdb", { maxTokens: 50_000, maxAge_ms: 7 * 86_400_000, forget });
 *     const conversations = new Conversations({ ...model, keyOf, contextTokens: model.contextLength, records });
 *     const turn = conversations.continue(messages, { answerTokens: 200 });
 *     const generation = model.generate(turn.plan, { store, maxNewTokens: 200, keepAnswer: turn.keepAnswer });
 *     // when it has ended:
 *     turn.answered({ text, tokens, finish });
 */
export { type Answered, type ContinueOptions, Conversations, type ConversationsOptions, type Setting, type Turn } from "./conversations.js";
export type { Message } from "./message.js";
export { type Phrasing } from "./phrasing.js";
export { Records, type RecordsOptions } from "./records.js";
