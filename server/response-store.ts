import { LRUCache } from "lru-cache";
import type { SharedConversations } from "../chat/index.js";
import { ApiError } from "./error.js";
import type { RequestMessage } from "./requests/message.js";

/** Characters of texts to keep, and how long unused ones stay. */
const MOST_CHARACTERS = 32_000_000;
const KEPT_ms = 86_400_000;

/** A response with the conversation up to and including it, without instructions. */
export type StoredResponse = { readonly body: { readonly id: string }; readonly messages: readonly RequestMessage[] };

/** An item of an answer, with its id. */
export type StoredItem = readonly [id: string, message: RequestMessage];

/**
 * Responses that clients refer to by id, and their messages. They are kept in this process's memory, limited by size and
 * age, least recently used removed first. If servers share conversations, each of them finds a response for a day.
 */
export class ResponseStore {
  private readonly responses = new LRUCache<string, StoredResponse>({ maxSize: MOST_CHARACTERS, ttl: KEPT_ms, updateAgeOnGet: true });
  private readonly items = new LRUCache<string, RequestMessage>({ maxSize: MOST_CHARACTERS, ttl: KEPT_ms, updateAgeOnGet: true });

  constructor(private readonly shared?: SharedConversations) {}

  /** @param items the answer's items */
  async keep(response: StoredResponse, items: readonly StoredItem[]): Promise<void> {
    this.hold(response, items);
    const texts = [[response.body.id, { response, items }] as const, ...items];
    await Promise.all(texts.map(([id, value]) => this.shared?.putText(id, JSON.stringify(value), KEPT_ms)));
  }

  private hold(response: StoredResponse, items: readonly StoredItem[]): void {
    const { body } = response;
    // Earlier messages belong to earlier responses.
    this.responses.set(body.id, response, { size: JSON.stringify(body).length });
    for (const [id, message] of items) this.items.set(id, message, { size: JSON.stringify(message).length });
  }

  /** @throws ApiError 404 */
  async response(id: string, param: string): Promise<StoredResponse> {
    const found = this.responses.get(id) ?? (await this.sharedResponse(id));
    if (!found) throw unknown("response", id, param);
    return found;
  }

  /** @throws ApiError 404 */
  async item(id: string): Promise<RequestMessage> {
    const found = this.items.get(id) ?? (await this.sharedText<RequestMessage>(id));
    if (!found) throw unknown("item", id, "input");
    return found;
  }

  async delete(id: string): Promise<void> {
    this.responses.delete(id);
    await this.shared?.deleteText(id);
  }

  private async sharedResponse(id: string): Promise<StoredResponse | undefined> {
    const found = await this.sharedText<{ readonly response: StoredResponse; readonly items: readonly StoredItem[] }>(id);
    if (found) this.hold(found.response, found.items);
    return found?.response;
  }

  private async sharedText<Kept>(id: string): Promise<Kept | undefined> {
    const text = await this.shared?.text(id);
    return text === undefined ? undefined : (JSON.parse(text) as Kept);
  }
}

function unknown(what: string, id: string, param: string): ApiError {
  const message = `This server has no ${what} '${id.slice(0, 100)}'. It keeps them in memory for a day, unless store is false. Send the messages themselves (in the AI SDK: providerOptions.openai.store false).`;
  return new ApiError(404, message, { param, code: `${what}_not_found` });
}
