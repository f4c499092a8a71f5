/**
 * Conversations on the engine: messages -> plan, so that each turn computes only what is new.
 *
 *     const records = ConversationRecords.open("my.kv/conversations.lmdb", { maxTokens: 50_000, maxAge_ms: 7 * 86_400_000, forget });
 *     const conversations = new Conversations({ ...model, keyOf, contextTokens: model.contextLength, records });
 *     const turn = conversations.continue(messages, { answerTokens: 200 });
 *     const generation = model.generate(turn.plan, { store, maxNewTokens: 200, keepAnswer: turn.keepAnswer });
 *     // when it has ended:
 *     turn.answered({ text, tokens, finish });
 */

export { ConversationRecords, type ConversationRecordsOptions } from "./conversation-records.js";
export {
  type Answered,
  type ContinueOptions,
  Conversations,
  type ConversationsOptions,
  type Setting,
  type Turn,
  type Whose,
} from "./conversations.js";
export { type NameOf, namesOf } from "./long-texts.js";
export type { Message } from "./message.js";
export type { Phrasing } from "./phrasing.js";
export { chatPlan } from "./plan.js";
export { SharedConversations, type SharedConversationsOptions, type TurnOrder } from "./shared-conversations.js";
export { textPlan } from "./text.js";
export * from "./tools/index.js";
